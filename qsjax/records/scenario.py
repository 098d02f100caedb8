"""The inputs of one evaluation, together."""

from typing import NamedTuple

from qsjax.numerics.namespace import ArrayLike
from qsjax.records.specs import HardwareSpec, ModelSpec, Partition, Workload


class Records(NamedTuple):
    """The inputs of one evaluation; their fields broadcast against each other.

    Beside a stack of models the workload has one value for all of them, or one for each, in every
    field by itself.
    """

    model: ModelSpec
    hardware: HardwareSpec
    partition: Partition
    workload: Workload
    gpus: ArrayLike | None = None
