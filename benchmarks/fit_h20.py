"""Shares that H20's own kernels reach, from the measurements of them in h20_kernels.csv.

Run `python -m benchmarks.fit_h20`: what the catalogue's h20-96g.toml has, and the errors that the
law leaves. A kernel takes a start-up and the norm of its bytes and its arithmetic (FP8), as in
qsjax/engines/kernels.toml; reading a cache, a start-up and its bytes. An exponent of 10, the edge
of what is tried, is as good as the larger of the two.

Rows are those of the left operand, of each expert in grouped products. `inner` and `outer` are the
widths of the weights; of an expert's three matrices hidden and intermediate size; where a cache is
read, `rows` are sequences and `inner` their tokens.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from qsjax import catalog
from qsjax.engines.tuning import share_of_norm
from qsjax.records.units import US

TABLE = Path(__file__).with_name("h20_kernels.csv")
CACHED = 2 * 2 * 256 * 2  # bytes of a token: keys and values of two heads of 256, in 16 bits
BF16 = 2  # bytes of what FP8 products write


class Fit(NamedTuple):
    """Start-up [us], shares of bandwidth and peak, exponent of the norm, and errors left [1]."""

    constants: np.ndarray
    errors: np.ndarray

    def __str__(self) -> str:
        error = np.abs(self.errors)
        found = ", ".join(f"{x:.3g}" for x in self.constants)
        return f"{found}: {np.median(error):.1%}, 90 % below {np.percentile(error, 90):.1%}"


def measured(*kernels: str) -> np.ndarray:
    """Columns of the kernels: rows, inner, outer, experts (1 where there is one), time [s]."""
    with TABLE.open(encoding="utf-8") as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return np.array(
            [
                [float(row[name] or 1) for name in ("rows", "inner", "outer", "experts")]
                + [float(row["us"]) * US]
                for row in rows
                if row["kernel"] in kernels
            ]
        ).T


def _fitted(bytes_read: np.ndarray, flops: np.ndarray | None, seconds: np.ndarray) -> Fit:
    chip = catalog.hardware("h20-96g")

    def errors(x: np.ndarray) -> np.ndarray:
        reading = bytes_read / (chip.hbm_bw * x[1])
        if flops is not None:
            norm = x[3]
            reading = (reading**norm + (flops / (chip.flops_fp8 * x[2])) ** norm) ** (1 / norm)
        return np.log((x[0] * US + reading) / seconds)

    low, high = [0.0, 0.3, 0.1, 1.0], [60.0, 1.0, 1.2, 10.0]
    count = 2 if flops is None else 4
    found = least_squares(errors, [10.0, 0.8, 0.8, 2.0][:count], bounds=(low[:count], high[:count]))
    return Fit(found.x, np.expm1(found.fun))


def fits() -> dict[str, Fit]:
    """Of dense products, of layers of experts and of attention over a cache."""
    rows, inner, outer, _, seconds = measured("product")
    written = BF16 * rows * outer
    dense = _fitted(inner * outer + rows * inner + written, 2 * rows * inner * outer, seconds)
    rows, inner, outer, experts, seconds = measured("masked", "contiguous")
    weights = 3 * inner * outer
    moved = (1 + BF16) * inner + (1 + 2 * BF16) * outer  # of a row, up and down
    busy = experts * -np.expm1(-rows)  # experts that any row chose
    grouped = _fitted(
        weights * busy + experts * rows * moved, 2 * weights * experts * rows, seconds
    )
    sequences, tokens, _, _, seconds = measured("cache")
    return {
        "products": dense,
        "experts": grouped,
        "cache": _fitted(sequences * tokens * CACHED, None, seconds),
    }


def fields(found: dict[str, Fit]) -> dict[str, float]:
    """What the catalogue's file says of them."""
    _, read, peak, norm = found["products"].constants
    _, expert_read, expert_peak, expert_norm = found["experts"].constants
    return {
        "eff_kv_read": float(found["cache"].constants[1]),
        "eff_weight_read": float(read),
        "eff_gemm": float(peak),
        "gemm_blend": share_of_norm(norm),
        "expert_read_ratio": float(expert_read / read),
        "expert_gemm_ratio": float(expert_peak / peak),
        "expert_blend": share_of_norm(expert_norm),
    }


def main() -> None:
    """Print the fits and the fields."""
    found = fits()
    for name, fit in found.items():
        print(f"{name}: {fit}")
    for name, value in fields(found).items():
        print(f"{name} = {value:.3g}")


if __name__ == "__main__":
    main()
