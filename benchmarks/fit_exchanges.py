"""Fit the exchanges of each library in `[exchange]` of qsjax/engines/kernels.toml to their records.

`python -m benchmarks.fit_exchanges` prints the constants of every library and what they leave of
its tables; it takes ten seconds.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.optimize import least_squares

from benchmarks.fit_accelerator import said
from qsjax.catalog import hardware_entry
from qsjax.engines.rules import load_kernels
from qsjax.evidence.calibration import SOFT
from qsjax.evidence.measurements import load_records
from qsjax.evidence.measurements.deployment import UnusableError
from qsjax.evidence.measurements.kernels import Kernel, library_of, read, times, with_exchange
from qsjax.numerics.loading import in_float64


def kernels_of(library: str) -> list[Kernel]:
    """The exchanges of a library, on the accelerators of the catalogue."""
    found = []
    for record in load_records():
        if record["category"] != "moe_a2a" or library_of(str(record["metric"])) != library:
            continue
        try:
            kernel = read(record)
        except UnusableError:
            continue
        own = dataclasses.replace(
            kernel.one, hardware=hardware_entry(kernel.one.hardware_name).spec
        )
        found.append(dataclasses.replace(kernel, one=own))
    return found


def errors(kernels: Sequence[Kernel], constants: Sequence[float]) -> np.ndarray:
    """Logarithms of predicted over measured times with the constants of a library."""
    moved = [
        dataclasses.replace(kernel, one=with_exchange(kernel.one, constants)) for kernel in kernels
    ]
    return np.log([time for time, _ in times(moved, {})]) - np.log([k.measured for k in kernels])


@in_float64
def main() -> None:
    """Fit each library, and print."""
    for library, start in load_kernels()["exchange"].items():
        left = partial(errors, kernels_of(library))
        fit = least_squares(
            lambda logs, left=left: left(np.exp(logs).tolist()),
            np.log(np.maximum(start, 0.01)),
            loss="soft_l1",
            f_scale=SOFT,
            diff_step=1e-4,
        )
        constants = np.exp(fit.x).tolist()
        print(f"{library} = [{', '.join(f'{x:.3g}' for x in constants)}]")
        print(f"  {said(library, left(constants))}")


if __name__ == "__main__":
    main()
