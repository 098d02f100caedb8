"""Facts of every number that a user may name as an axis."""

from collections.abc import Mapping

from qsjax.records.fields import GPUS, POSITIVE, Facts, facts_of
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload

FIELDS: Mapping[str, Facts] = {
    name: facts
    for record in (ModelSpec, HardwareSpec, Partition, Workload, Convention)
    for name, facts in facts_of(record).items()
} | {
    "q": Facts(meaning="quality-equivalence factor", rule=POSITIVE),
    "gpus": Facts(meaning="GPUs", rule=GPUS),
}
