"""Decode attention by itself: what NVIDIA measured, and what the law of the attention phase says.

Run `python -m benchmarks.attention_kernels` for the table. `--collect FOLDER` first writes
attention_kernels.csv anew from the measurements in AIConfigurator's package, FOLDER being its
`aiconfigurator_core/systems/data`. Nothing is fitted to them.
"""

import argparse
import csv
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from qsjax import catalog
from qsjax.cost.laws import compute, traffic
from qsjax.cost.laws.sharding import context_of
from qsjax.output.files import write_atomically
from qsjax.records.specs import (
    PHYSICAL,
    Dtype,
    HardwareSpec,
    ModelSpec,
    Partition,
    Records,
    Workload,
)

TABLE = Path(__file__).parent / "attention_kernels.csv"
SOURCE = "aiconfigurator 0.12.0 (Apache-2.0), systems/data, generation_attention_perf"
# Name in the source: name in the catalogue.
ACCELERATORS = {"h100_sxm": "h100", "h200_sxm": "h200", "b200_sxm": "b200", "gb200": "gb200"}
# What to take: the files of an operation, by the shapes in them.
HEAD_DIMS, LATENT_HEADS = (64, 128), (16, 64, 128)
LATENT, ROPE = 512, 64  # of DeepSeek-V3, which the source measured
# Tokens times KV heads from which on launches, splits and the L2 cache no longer count.
LARGE = 3_000_000
PS = 1e-12
COLUMNS = (
    "accelerator", "engine", "release", "head_dim", "latent_heads", "kv_bytes", "ps",
    "measurements",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Median time that one more token of one KV head, or of a latent, takes [ps].

    `latent_heads` is 0 for grouped queries, whose number does not matter below a tile.
    """

    accelerator: str
    engine: str
    release: str
    head_dim: int
    latent_heads: int
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
    share = long["batch_size"] * long.get("num_key_value_heads", 1)
    if share * long["step"] < LARGE:
        return None
    taken = (long["latency"] - short["latency"]) * 1e-3 / (share * (long["step"] - short["step"]))
    return taken / PS if taken > 0 else None


def _shape(row: dict[str, Any]) -> tuple[int, int] | None:
    """Width of what is cached per token and heads of a latent; None for what is not taken."""
    if "head_dim" in row:
        taken = row["head_dim"] in HEAD_DIMS and not row.get("window_size", 0)
        return (row["head_dim"], 0) if taken else None
    heads = row["num_heads"]
    return (LATENT + ROPE, heads) if heads in LATENT_HEADS else None


def _collect(data: Path) -> Iterator[Kernel]:
    import pyarrow.parquet as parquet

    shape_keys = ("kernel_source", "num_heads", "num_key_value_heads", "batch_size")
    for name, accelerator in ACCELERATORS.items():
        files = (data / name).glob("*/*/*/generation_*_perf.parquet")
        for path in sorted(path for path in files if path.parts[-4] in ("attention", "mla")):
            groups: dict[tuple[int, ...], dict[tuple[Any, ...], list[dict[str, Any]]]] = {}
            for row in parquet.read_table(path).to_pylist():
                shape = _shape(row)
                if shape is not None:
                    kind = (*shape, 1 if row["kv_cache_dtype"] == "fp8" else 2)
                    same = tuple(row.get(key) for key in shape_keys)
                    groups.setdefault(kind, {}).setdefault(same, []).append(row)
            for (width, latent_heads, stored), shapes in sorted(groups.items()):
                found = [t for rows in shapes.values() if (t := marginal(rows)) is not None]
                yield Kernel(
                    accelerator=accelerator,
                    engine=path.parts[-3],
                    release=path.parts[-2],
                    head_dim=width,
                    latent_heads=latent_heads,
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
            latent_heads=int(row["latent_heads"]),
            kv_bytes=int(row["kv_bytes"]),
            ps=float(row["ps"]),
            measurements=int(row["measurements"]),
        )
        for row in rows
    ]


def predicted(kernel: Kernel, hardware: HardwareSpec) -> tuple[float, float]:
    """What the kernel and what the memory needs for one more token of a KV head or latent [ps].

    Of grouped queries up to `query_tile` share the head.
    """
    heads = max(1.0, kernel.latent_heads)
    is_latent = kernel.latent_heads > 0
    model = ModelSpec(
        layers=1.0, hidden=1.0, vocab=1.0, heads=heads, kv_heads=heads, head_dim=kernel.head_dim,
        expert_ff=1.0, kv_latent=LATENT * is_latent, rope_dim=ROPE * is_latent,
    )  # fmt: skip
    # As records of deployments are read: engines multiply FP8 latents as such.
    dtype: Dtype = "fp8" if is_latent and kernel.kv_bytes == 1 else "bf16"
    work = Workload(context=1.0, bytes_kv=kernel.kv_bytes, attn_dtype=dtype)
    ctx = context_of(Records(model, hardware, Partition(), work), PHYSICAL)
    own, attended = compute.attention_seconds(ctx), compute.attended_tokens(model, work)
    read_bytes = traffic.kv_bytes(ctx, attended, jnp.ones(()))
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
        is_told = own > memory and kernel.kv_bytes < 2 and not kernel.latent_heads
        lines.append(
            (
                kernel.accelerator,
                f"{kernel.engine} {kernel.release}",
                f"MLA {kernel.latent_heads}" if kernel.latent_heads else str(kernel.head_dim),
                "fp8" if kernel.kv_bytes == 1 else "bf16",
                f"{kernel.ps:.1f}",
                str(kernel.measurements),
                f"{own:.1f}",
                f"{memory:.1f}",
                f"{100 * (max(own, memory) / kernel.ps - 1):+.0f} %",
                f"{implied(kernel, hardware):.2f}" if is_told else "",
            )
        )
    return lines


TITLES = (
    "accelerator", "engine", "head", "cache", "measured", "n", "kernel", "memory", "error",
    "its eff_exp",
)  # fmt: skip


def main() -> None:
    """Print the table; with `--collect FOLDER`, take its medians from there first."""
    parser = argparse.ArgumentParser(description="Decode attention by itself, against the law.")
    parser.add_argument("--collect", metavar="FOLDER", type=Path, help="take the medians from here")
    folder = parser.parse_args().collect
    if folder is not None:
        kernels = list(_collect(folder))
        if not kernels:
            parser.error(f"{folder} has no measurements; give aiconfigurator_core/systems/data")
        lines = [f"# {SOURCE}", ",".join(COLUMNS)]
        lines += [",".join(str(getattr(k, c)) for c in COLUMNS) for k in kernels]
        write_atomically(TABLE, "\n".join(lines) + "\n")
    table = (TITLES, *rows())
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
