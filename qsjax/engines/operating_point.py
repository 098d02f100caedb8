"""One deployment at one operating point, as a measurement states it."""

import dataclasses

from qsjax.engines.tuning import Entries
from qsjax.records.specs import PHYSICAL, Convention, HardwareSpec, ModelSpec, Partition, Workload


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One deployment at one operating point.

    Attributes:
        model: shapes, with `model_name` in the catalogue.
        hardware: accelerator, with `hardware_name` in the catalogue.
        partition: parallel degrees.
        workload: context, batch of an attention replica, precisions.
        convention: physical, with the schedule that the record states.
        prompt: mean prompt length [tokens]; 0 where prompts are not part of the measurement.
        output: mean output length [tokens].
        engine: "trtllm", "vllm", "sglang", "atom" or "".
        release: of vLLM, by `memory.release_of`; "" is the current one.
        expert_launches: of a layer with experts, beyond what the accelerator's overheads hold [s].
        kernels: entries of the kernel table that `hardware` has its constants from; None: none.
    """

    model: ModelSpec
    model_name: str
    hardware: HardwareSpec
    hardware_name: str
    partition: Partition
    workload: Workload
    convention: Convention = PHYSICAL
    prompt: float = 0.0
    output: float = 0.0
    engine: str = ""
    release: str = ""
    expert_launches: float = 0.0
    kernels: Entries | None = None
