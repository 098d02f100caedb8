"""Decode attention by itself: what NVIDIA measured, and what the law of the attention phase says.

Run `python -m benchmarks.attention_kernels` for the table. `--collect FOLDER` first writes
attention_kernels.csv anew from the measurements in AIConfigurator's package, FOLDER being its
`aiconfigurator_core/systems/data`. Nothing is fitted to them.
"""

import csv
import dataclasses
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qsjax import catalog
from qsjax.cost import compute, traffic
from qsjax.export import write_atomically
from qsjax.specs import PHYSICAL, HardwareSpec, ModelSpec, Partition, Workload

TABLE = Path(__file__).parent / "attention_kernels.csv"
SOURCE = "aiconfigurator 0.12.0 (Apache-2.0), systems/data, generation_attention_perf"
# Name in the source: name in the catalogue.
ACCELERATORS = {"h100_sxm": "h100", "h200_sxm": "h200", "b200_sxm": "b200", "gb200": "gb200"}
WIDTHS = (64, 128)  # of heads, where all engines have kernels
# Tokens times KV heads from which on launches, splits and the L2 cache no longer count.
LARGE = 3_000_000
PS = 1e-12
COLUMNS = ("accelerator", "engine", "release", "head_dim", "kv_bytes", "ps", "measurements")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Median time that one more token of one KV head takes [ps]."""

    accelerator: str
    engine: str
    release: str
    head_dim: int
    kv_bytes: int
    ps: float
    measurements: int


def marginal(rows: list[dict[str, Any]]) -> float | None:
    """Time per token and KV head between the two longest contexts of one batch [ps].

    None where there is but one, or where the batch is too small for its length to matter alone.
    """
    by_context = {row["step"]: row for row in rows}
    if len(by_context) < 2:
        return None
    short, long = (by_context[step] for step in sorted(by_context)[-2:])
    share = long["batch_size"] * long["num_key_value_heads"]
    if share * long["step"] < LARGE:
        return None
    taken = (long["latency"] - short["latency"]) * 1e-3 / (share * (long["step"] - short["step"]))
    return taken / PS if taken > 0 else None


def _collect(data: Path) -> Iterator[Kernel]:
    import pyarrow.parquet as parquet

    for name, accelerator in ACCELERATORS.items():
        files = (data / name / "attention").glob("*/*/generation_attention_perf.parquet")
        for path in sorted(files):
            groups: dict[tuple[int, int], dict[tuple[Any, ...], list[dict[str, Any]]]] = {}
            for row in parquet.read_table(path).to_pylist():
                if row["head_dim"] not in WIDTHS or row.get("window_size", 0):
                    continue
                kind = (row["head_dim"], 1 if row["kv_cache_dtype"] == "fp8" else 2)
                names = ("kernel_source", "num_heads", "num_key_value_heads", "batch_size")
                shape = tuple(row[name] for name in names)
                groups.setdefault(kind, {}).setdefault(shape, []).append(row)
            for (width, stored), shapes in sorted(groups.items()):
                found = [t for rows in shapes.values() if (t := marginal(rows)) is not None]
                yield Kernel(
                    accelerator=accelerator,
                    engine=path.parent.parent.name,
                    release=path.parent.name,
                    head_dim=width,
                    kv_bytes=stored,
                    ps=round(statistics.median(found), 2),
                    measurements=len(found),
                )


def read() -> list[Kernel]:
    """The medians of the table."""
    with TABLE.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return [
        Kernel(
            accelerator=row["accelerator"],
            engine=row["engine"],
            release=row["release"],
            head_dim=int(row["head_dim"]),
            kv_bytes=int(row["kv_bytes"]),
            ps=float(row["ps"]),
            measurements=int(row["measurements"]),
        )
        for row in rows
    ]


def predicted(kernel: Kernel, hardware: HardwareSpec) -> tuple[float, float]:
    """What the kernel and what the memory needs for one more token of a KV head [ps].

    Up to `query_tile` queries share the head.
    """
    model = ModelSpec(
        layers=1.0, hidden=1.0, vocab=1.0, heads=1.0, kv_heads=1.0, head_dim=kernel.head_dim,
        expert_ff=1.0,
    )  # fmt: skip
    work = Workload(context=1.0, bytes_kv=kernel.kv_bytes)
    own = compute.attention_seconds(model, hardware, Partition(), work, PHYSICAL)
    attended = compute.attended_tokens(model, work)
    read_bytes = traffic.kv_bytes(model, Partition(), work, PHYSICAL, attended, np.ones(()))
    memory = read_bytes / (hardware.hbm_bw * hardware.eff_kv_read)
    return float(own) / PS, float(memory) / PS


def implied(kernel: Kernel, hardware: HardwareSpec) -> float:
    """The `eff_exp` with which the kernel needs what was measured [1]."""
    spared = dataclasses.replace(hardware, flops_exp=0.0)
    softmax = (kernel.ps - predicted(kernel, spared)[0]) * PS / float(hardware.query_tile)  # type: ignore[arg-type]  # catalogue entries hold floats
    return 1.0 / (softmax * float(hardware.flops_exp))  # type: ignore[arg-type]  # catalogue entries hold floats


def rows() -> list[tuple[str, ...]]:
    """Measured and predicted times as text."""
    lines = []
    for kernel in read():
        hardware = catalog.hardware(kernel.accelerator)
        own, memory = predicted(kernel, hardware)
        lines.append(
            (
                kernel.accelerator,
                f"{kernel.engine} {kernel.release}",
                str(kernel.head_dim),
                "fp8" if kernel.kv_bytes == 1 else "bf16",
                f"{kernel.ps:.1f}",
                str(kernel.measurements),
                f"{own:.1f}",
                f"{memory:.1f}",
                f"{100 * (max(own, memory) / kernel.ps - 1):+.0f} %",
                f"{implied(kernel, hardware):.2f}" if own > memory and kernel.kv_bytes < 2 else "",
            )
        )
    return lines


HEADS = (
    "accelerator", "engine", "head", "cache", "measured", "n", "kernel", "memory", "error",
    "its eff_exp",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table; with `--collect FOLDER`, take its medians from there first."""
    if arguments[:1] == ["--collect"]:
        lines = [f"# {SOURCE}", ",".join(COLUMNS)]
        kernels = _collect(Path(arguments[1]))
        lines += [",".join(str(getattr(k, c)) for c in COLUMNS) for k in kernels]
        write_atomically(TABLE, "\n".join(lines) + "\n")
    widths = [max(map(len, column)) for column in zip(HEADS, *rows(), strict=True)]
    for line in (HEADS, *rows()):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
