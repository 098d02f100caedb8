"""Fit the routed experts of `[experts]` in qsjax/engines/kernels.toml to their kernel tables.

Run `python -m benchmarks.fit_experts FOLDER`, FOLDER being `aiconfigurator_core/systems/data` in an
environment that has AIConfigurator (the extra `rivals`): constants, and what they leave of each
table, before and after. `--write` puts them into kernels.toml. It takes half a minute.

Only the share of the unit's peak is fitted, to steps that give an expert many tokens on average,
and to the tables of skewed routing (`power_law_1.2`), which AIConfigurator takes for deployments,
too: experts that get few tokens fill their tiles badly, and those that get many run longest.
Routed evenly, such steps would be 10 to 40 % faster than any router lets them be. Start-ups, shares
of the memory and exponents stay as they are in the table: those of even routing or, where `WHOLE`
has the entry, of a fit of all four constants, which is printed, too. Experts are on one rank: what
several ranks wait for is a law of its own.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import least_squares, minimize_scalar

from benchmarks.fit_kernels import TABLE, replaced
from qsjax.catalog import hardware_entry
from qsjax.cost.laws.traffic import SKEW_SHAPE
from qsjax.engines.rules import load_kernels
from qsjax.engines.tuning import US, WIDENED
from qsjax.evidence.calibration import SOFT
from qsjax.numerics.safe import scalar

ROUTING = "power_law_1.2"
ACCELERATORS = {"hopper": ("h100_sxm", "h200_sxm"), "blackwell": ("b200_sxm",)}
RELEASES = {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}
MOST_TOKENS = 16384  # of a step
# Format in the tables: bytes of a weight with its scales, and the unit that multiplies it.
BYTES = {
    "bfloat16": (2.0, "bf16"),
    "fp8": (1.0, "fp8"),
    "fp8_block": (1.0, "fp8"),
    "int4_wo": (0.516, "bf16"),
    "w4a16_mxfp4": (0.531, "bf16"),
    "w4a8_mxfp4_mxfp8": (0.531, "fp4"),
    "nvfp4": (0.5625, "fp4"),
}
MANY = 16  # tokens of an expert from which on products are what takes the time


class Kernels(NamedTuple):
    """An entry of the table, and the kernels that were measured for it."""

    generation: str
    engine: str
    entry: str
    measured_by: str
    dtype: str
    source: str


def _listed(text: str) -> tuple[Kernels, ...]:
    return tuple(Kernels(*row.split()) for row in text.strip().splitlines())


# The kernels that the engines take, where a table has several.
KERNELS = _listed(
    """
    hopper    vllm   bf16         vllm   bfloat16         tritonexperts
    hopper    vllm   fp8_block    vllm   fp8_block        tritonexperts
    hopper    vllm   int4         vllm   int4_wo          marlinexperts
    hopper    vllm   mxfp4_triton vllm   w4a16_mxfp4      oaitriton
    hopper    sglang bf16         sglang bfloat16         fused_moe_triton
    hopper    sglang fp8_block    sglang fp8_block        fused_moe_triton
    hopper    sglang int4         sglang int4_wo          marlin
    hopper    sglang mxfp4        vllm   w4a16_mxfp4      oaitriton
    hopper    trtllm bf16         trtllm bfloat16         cutlass
    hopper    trtllm fp8          trtllm fp8              cutlass
    hopper    trtllm fp8_block    trtllm fp8_block        cutlass
    hopper    trtllm mxfp4_triton trtllm w4a16_mxfp4      moe_torch_flow
    blackwell vllm   bf16         vllm   bfloat16         trtllmbf16
    blackwell vllm   fp8_block    vllm   fp8_block        modular
    blackwell vllm   int4         vllm   int4_wo          marlinexperts
    blackwell vllm   mxfp4        sglang w4a8_mxfp4_mxfp8 sglang_mxfp4
    blackwell vllm   nvfp4        vllm   nvfp4            trtllmnvfp4expertsmonolithic
    blackwell sglang bf16         sglang bfloat16         fused_moe_triton
    blackwell sglang fp8_block    sglang fp8_block        flashinfer_trtllm
    blackwell sglang int4         sglang int4_wo          flashinfer_trtllm
    blackwell sglang mxfp4        sglang w4a8_mxfp4_mxfp8 sglang_mxfp4
    blackwell sglang nvfp4        sglang nvfp4            flashinfer_trtllm
    blackwell trtllm bf16         trtllm bfloat16         cutlass
    blackwell trtllm fp8          trtllm fp8              cutlass
    blackwell trtllm fp8_block    trtllm fp8_block        deepgemm
    blackwell trtllm mxfp4        trtllm w4a8_mxfp4_mxfp8 moe_torch_flow
    """
)
# Those whose four constants are of skewed routing: the first three with the share of the peak from
# many tokens, CUTLASS's as they are. The last entry is served faster than its table says.
WHOLE = _listed(
    """
    hopper    trtllm fp8           trtllm fp8         cutlass
    hopper    trtllm mxfp4_triton  trtllm w4a16_mxfp4 moe_torch_flow
    blackwell trtllm fp8           trtllm fp8         cutlass
    blackwell trtllm nvfp4_cutlass trtllm nvfp4       cutlass
    blackwell vllm   nvfp4_cutlass vllm   nvfp4       flashinfer_cutlass
    hopper    vllm   mxfp4         vllm   w4a16_mxfp4 marlinexperts
    """
)
# Bounds of the four constants, of the exponent less 1.
BOUNDS = [2.0, 0.1, 0.02, 1e-4], [200.0, 1.0, 1.2, 9.0]


class Measured(NamedTuple):
    """Times of the experts of a layer, and what bounds them, shape (measurement,).

    Attributes:
        seconds: measured.
        read: of the bytes at the peak of the memory [s].
        least: of the bytes as fast as 4-bit kernels read at all [s]; 0 where nothing bounds them.
        products: at the peak of the unit [s].
        tokens: of an expert, on average.
    """

    seconds: np.ndarray
    read: np.ndarray
    least: np.ndarray
    products: np.ndarray
    tokens: np.ndarray


def measured(folder: Path, kernels: Kernels) -> Measured:
    """The rows of a table."""
    parts = [_of_accelerator(folder, kernels, name) for name in ACCELERATORS[kernels.generation]]
    return Measured(*map(np.concatenate, zip(*parts, strict=True)))


def _of_accelerator(folder: Path, kernels: Kernels, name: str) -> Measured:
    own = kernels.measured_by
    table = pq.read_table(folder / name / "moe" / own / RELEASES[own] / "moe_perf.parquet")
    source = re.compile(kernels.source)
    rows = [
        row
        for row in table.to_pylist()
        if row["moe_dtype"] == kernels.dtype
        and row["distribution"] == ROUTING
        and row["moe_ep_size"] == 1
        and row["num_tokens"] <= MOST_TOKENS
        and source.search(row["kernel_source"])
        and not row["kernel_source"].endswith("nongated")
    ]

    def column(key: str) -> np.ndarray:
        return np.array([row[key] for row in rows], float)

    spec = hardware_entry(name.replace("_", "-")).spec
    size, unit = BYTES[kernels.dtype]
    hidden, inter = column("hidden_size"), column("inter_size") / column("moe_tp_size")
    experts, routed = column("num_experts"), column("num_tokens") * column("topk")
    tokens = routed / experts
    reached = 1.0 - (1.0 + tokens / SKEW_SHAPE) ** -SKEW_SHAPE  # as under `expert_balance="skewed"`
    moved = size * 3.0 * hidden * inter * experts * reached + 4.0 * routed * (hidden + inter)
    bound = 0.0
    if kernels.generation == "hopper" and kernels.entry.startswith(WIDENED):
        widened = load_kernels()["served"]["dequantised"]
        bound = 1e-12 / widened.get(kernels.entry, widened["others"])
    return Measured(
        seconds=column("latency") * 1e-3,
        read=moved / scalar(spec.hbm_bw),
        least=moved * bound,
        products=6.0 * routed * hidden * inter / scalar(getattr(spec, f"flops_{unit}")),
        tokens=tokens,
    )


def errors(constants: Sequence[float], of: Measured) -> np.ndarray:
    """Logarithms of predicted over measured times."""
    startup, read, peak, norm = constants
    moved = np.maximum(of.read / read, of.least)
    time = startup * US + (moved**norm + (of.products / peak) ** norm) ** (1.0 / norm)
    return np.log(time / of.seconds)


def fit(of: Measured, held: Sequence[float]) -> list[float]:
    """The constants with the share of the unit's peak that fits products of many tokens."""
    startup, read, _, norm = held
    many = Measured(*(column[of.tokens >= MANY] for column in of))

    def missed(log: float) -> float:
        return float(np.abs(errors([startup, read, np.exp(log), norm], many)).mean())

    found = minimize_scalar(missed, bounds=(np.log(0.02), np.log(1.2)))
    return [startup, read, float(f"{np.exp(found.x):.3g}"), norm]


def fit_whole(of: Measured) -> list[float]:
    """Start-up [us], shares of the memory's and of the unit's peak, exponent of the norm."""

    def constants(logs: np.ndarray) -> list[float]:
        *others, over = np.exp(logs)
        return [*others, 1.0 + over]

    low, high = np.log(BOUNDS)
    found = least_squares(
        lambda logs: errors(constants(logs), of),
        np.log([40.0, 0.8, 0.4, 0.4]),
        bounds=(low, high),
        loss="soft_l1",
        f_scale=SOFT,
    )
    return [float(f"{x:.3g}") for x in constants(found.x)]


def summary(constants: Sequence[float], of: Measured) -> str:
    """Constants, and median, 90th percentile and biases of their errors in per cent."""
    left = 100.0 * errors(constants, of)
    size = np.abs(left)
    few, many = of.tokens < MANY, of.tokens >= MANY
    return (
        f"{constants!s:<32} median {np.median(size):5.1f}  90 % {np.percentile(size, 90):5.1f}"
        f"  bias {np.median(left[few]):+5.1f}, {np.median(left[many]):+5.1f} with many tokens"
    )


def written(text: str, kernels: Kernels, constants: Sequence[float]) -> str:
    """The table's text with an entry in place."""
    before = rf"{kernels.engine} = .*?\b{kernels.entry} = "
    new = replaced(text, f"experts.{kernels.generation}", before, str(list(constants)))
    if new is None:
        raise ValueError(f"{kernels.generation} {kernels.engine}: no entry {kernels.entry}")
    return new


def main() -> None:
    """Fit every entry, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="aiconfigurator_core/systems/data")
    parser.add_argument("--write", action="store_true", help="put the constants into the table")
    asked = parser.parse_args()
    text = TABLE.read_text("utf-8")
    table: Any = load_kernels()["experts"]
    left = []
    for kernels in KERNELS:
        of = measured(asked.folder, kernels)
        before = table[kernels.generation][kernels.engine][kernels.entry]
        after = fit(of, before)
        print(kernels.generation, kernels.engine, kernels.entry, len(of.seconds))
        print("  before", summary(before, of))
        print("  after ", summary(after, of), flush=True)
        left.append(np.abs(errors(after, of)))
        text = written(text, kernels, after) if asked.write else text
    for kernels in WHOLE:
        of = measured(asked.folder, kernels)
        print(kernels.generation, kernels.engine, kernels.entry, len(of.seconds))
        print("  whole ", summary(fit_whole(of), of), flush=True)
    every = 100.0 * np.concatenate(left)
    print(f"all {len(every):,}: median {np.median(every):.1f}, 90 % {np.percentile(every, 90):.1f}")
    if asked.write:
        TABLE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
