"""Numbers as printed in *The qs Inequality*, arXiv 2603.08960, and the points they belong to."""

from typing import NamedTuple

CONTEXT_128K = 131072.0
Q = 5.0


class Memory(NamedTuple):
    """Calibration of a model's capacity: cache overhead, and expert split of the pool [1]."""

    kv_overhead: float
    expert_split: float


# Fitted to the printed batches, model by model; not physics, and declared as such in the output.
CALIBRATION: dict[tuple[str, int], Memory] = {
    ("grok-1", 64): Memory(1.25, 1.0),
    ("qwen3-235b-a22b", 64): Memory(1.65, 2.0),
    ("deepseek-v3", 64): Memory(1.635, 4.0),
    ("deepseek-v3", 32): Memory(1.635, 2.0),
    ("switch-c-2048", 64): Memory(1.0, 1.0),
}
MODELS = tuple(sorted({name for name, _ in CALIBRATION}))

# Table 1: experts, top-k, printed s, printed q*s (the q column is lost in the text we have).
TABLE_1: dict[str, tuple[int, int, float, float | None]] = {
    "DeepSpeed-MoE": (128, 1, 0.0078, None),
    "GLaM": (64, 2, 0.031, None),
    "GShard": (128, 2, 0.016, None),
    "Switch-C": (2048, 1, 0.00049, 0.0015),
    "ST-MoE": (64, 2, 0.031, 0.093),
}
TABLE_1_Q = 3.0  # the q that both printed products q*s imply
# Section 3.4: losses of dense and MoE models of equal active size, printed q.
QUALITY: dict[str, tuple[float, float, float]] = {
    "DeepSpeed-MoE 1.3B active": (2.34, 2.12, 3.67),
    "DeepSpeed-MoE 350M active": (2.60, 2.29, 5.31),
}


class Reuse(NamedTuple):
    """A row of table 3, at 128k context."""

    model: str
    gpus: int
    q: float
    s: float
    qs: float
    batch_moe: float
    batch_dense: float
    reuse_moe: float
    routing: float
    capacity: float
    gap: float


TABLE_3 = (
    Reuse("qwen3-235b-a22b", 64, 5.0, 0.0625, 0.313, 86, 89, 5.38, 16.0, 1.03, 16.48),
    Reuse("deepseek-v3", 32, 5.0, 0.0313, 0.156, 100, 130, 3.12, 32.0, 1.30, 41.60),
    Reuse("deepseek-v3", 64, 5.0, 0.0313, 0.156, 244, 267, 7.63, 32.0, 1.13, 36.16),
    Reuse("grok-1", 64, 5.0, 0.2500, 1.250, 127, 114, 31.75, 4.0, 0.90, 3.60),
    Reuse("grok-1", 64, 3.0, 0.2500, 0.750, 127, 143, 31.75, 4.0, 1.13, 4.52),
    Reuse("grok-1", 64, 2.0, 0.2500, 0.500, 127, 158, 31.75, 4.0, 1.24, 4.96),
)
# Table 4: context, batches (MoE, dense), throughput in % of the MoE at 1k (MoE, dense).
TABLE_4 = (
    (1024, 31349, 34263, 100, 214),
    (16384, 1959, 2141, 31, 163),
    (32768, 979, 1070, 18, 88),
    (131072, 244, 267, 5, 23),
    (1048576, 30, 33, 0.7, 2.9),
    (4194304, 7, 8, 0.6, 0.7),
    (16777216, 1, 1, 0.2, 0.2),
)
# Table 5: HBM, compute and communication of (context, variant), in units of MoE compute at 1k.
TABLE_5: dict[tuple[int, str], tuple[float, float, float]] = {
    (1024, "moe"): (3, 1, 17),
    (1024, "dense"): (1, 10, 0),
    (131072, "moe"): (433, 32, 23),
    (131072, "dense"): (72, 48, 5),
}
# Table 6: model, q, batches (MoE, dense), dense throughput in % of the MoE at 128k on 64 GPUs.
TABLE_6 = (
    ("qwen3-235b-a22b", 5.0, 86, 89, 436),
    ("grok-1", 5.0, 127, 114, 158),
    ("grok-1", 3.0, 127, 143, 204),
    ("grok-1", 2.0, 127, 158, 228),
)
HEADLINE = 4.5  # dense over MoE, DeepSeek-V3 at 128k (abstract)


class Point(NamedTuple):
    """One operating point of a table; `batch` is the printed one, None where none is printed."""

    model: str
    q: float | None
    gpus: int
    context: float
    batch: float | None


def all_points() -> list[Point]:
    """Every operating point of tables 3 to 6."""
    found = [p for row in TABLE_3 for p in reuse_points(row)]
    found += [p for row in TABLE_4 for p in throughput_points(row)]
    found += [p for row in TABLE_6 for p in generality_points(row)]
    found += [Point("switch-c-2048", q, 64, CONTEXT_128K, None) for q in (None, Q)]
    return list(dict.fromkeys(found))


def reuse_points(row: Reuse) -> tuple[Point, Point]:
    """MoE and dense point of a row of table 3."""
    return (
        Point(row.model, None, row.gpus, CONTEXT_128K, row.batch_moe),
        Point(row.model, row.q, row.gpus, CONTEXT_128K, row.batch_dense),
    )


def throughput_points(row: tuple[float, ...]) -> tuple[Point, Point]:
    """MoE and dense point of a row of table 4."""
    context, batch_moe, batch_dense = row[:3]
    return (
        Point("deepseek-v3", None, 64, float(context), batch_moe),
        Point("deepseek-v3", Q, 64, float(context), batch_dense),
    )


def generality_points(row: tuple[str, float, float, float, float]) -> tuple[Point, Point]:
    """MoE and dense point of a row of table 6."""
    model, q, batch_moe, batch_dense, _ = row
    return (
        Point(model, None, 64, CONTEXT_128K, batch_moe),
        Point(model, q, 64, CONTEXT_128K, batch_dense),
    )
