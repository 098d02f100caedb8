"""Numbers as printed in *The qs Inequality*, arXiv 2603.08960, and the points they belong to."""

from collections.abc import Sequence
from typing import NamedTuple

from qsjax.records.tables import table

CONTEXT_128K = 131072.0
Q = 5.0
PRINTED = table("evidence/paper/printed.toml")


class Memory(NamedTuple):
    """Calibration of a model's capacity: cache overhead, and expert split of the pool [1]."""

    kv_overhead: float
    expert_split: float


CALIBRATION = {(model, gpus): Memory(*held) for model, gpus, *held in PRINTED["calibration"]}
MODELS = tuple(sorted({name for name, _ in CALIBRATION}))


class Point(NamedTuple):
    """One operating point of a table; `batch` is the printed one, None where none is printed."""

    model: str
    q: float | None
    gpus: int
    context: float
    batch: float | None


def _pair(
    model: str, q: float, batches: Sequence[str], gpus: int = 64, context: float = CONTEXT_128K
) -> tuple[Point, Point]:
    """MoE and dense point of a row with their printed batches."""
    moe, dense = map(float, batches)
    return Point(model, None, gpus, context, moe), Point(model, q, gpus, context, dense)


# MoE and dense point of each row, by table.
PAIRS = {
    "3": [_pair(row[0], row[2], row[7:9], gpus=row[1]) for row in PRINTED["table_3"]],
    "4": [_pair("deepseek-v3", Q, row[1:3], context=float(row[0])) for row in PRINTED["table_4"]],
    "6": [_pair(row[0], row[1], row[2:4]) for row in PRINTED["table_6"]],
}
SWITCH = Point("switch-c-2048", None, 64, CONTEXT_128K, None)  # printed as infeasible
POINTS = list(
    dict.fromkeys(
        [
            *(point for pairs in PAIRS.values() for pair in pairs for point in pair),
            *(SWITCH, SWITCH._replace(q=Q)),
        ]
    )
)
