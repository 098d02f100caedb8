"""Constants of accelerators without kernel tables, fitted to their own records of serving.

    python -m benchmarks.fit_accelerator trainium1
    python -m benchmarks.fit_accelerator trainium1 --to inferentia2,trainium2

prints constants, and the errors with them on the accelerator and on those that were left out. What
the catalogue holds (`eff_weight_read`, `eff_kv_read`, `layer_overhead` of trainium1) is its output.
"""

import dataclasses
from collections.abc import Sequence

import click
import numpy as np
from scipy.optimize import least_squares

from qsjax.evidence.calibration import SOFT
from qsjax.evidence.measurements import Case, load_records, predict, read_case
from qsjax.records.fields import defaults_of
from qsjax.records.specs import HardwareSpec

FIELDS = ("eff_weight_read", "eff_kv_read", "layer_overhead")
# Weight of the catalogue's general constants: a record counts as 20 times as much.
PRIOR = 0.05


def cases_of(name: str) -> list[Case]:
    """Scored times of a token on one accelerator."""
    found = [case for case in map(read_case, load_records()) if isinstance(case, Case)]
    mine = [case for case in found if case.deployments[0].hardware_name == name]
    return [case for case in mine if case.kind == "tpot" and not case.not_scored]


def errors(cases: Sequence[Case], values: np.ndarray) -> np.ndarray:
    """Logarithms of predicted over measured times with `values` of `FIELDS`."""
    changes = dict(zip(FIELDS, values, strict=True))
    moved = []
    for case in cases:
        own = tuple(
            dataclasses.replace(one, hardware=dataclasses.replace(one.hardware, **changes))
            for one in case.deployments
        )
        moved.append(dataclasses.replace(case, deployments=own))
    times = np.array([case.measured for case in cases])
    return np.log([found.value for found in predict(moved)]) - np.log(times)


def said(name: str, found: np.ndarray) -> str:
    """Median, 90th percentile and bias of errors."""
    per_cent = 100.0 * np.expm1(found)
    median, high = np.percentile(np.abs(per_cent), [50, 90])
    return (
        f"{name}: {len(found)} records, median {median:.1f} %, 90 % below {high:.1f} %, "
        f"bias {np.median(per_cent):+.1f} %"
    )


@click.command(help=__doc__)
@click.argument("name")
@click.option("--to", default="", help="Accelerators that are predicted with what was fitted.")
def main(name: str, to: str) -> None:
    """Print the constants and the errors."""
    own = cases_of(name)
    shared = defaults_of(HardwareSpec)
    plain = np.log([shared[field] for field in FIELDS])

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.append(errors(own, np.exp(logs)), PRIOR * (logs - plain))

    fit = least_squares(residuals, plain, loss="soft_l1", f_scale=SOFT, diff_step=1e-3)
    values = np.exp(fit.x)
    click.echo(", ".join(f"{f} = {x:.3g}" for f, x in zip(FIELDS, values, strict=True)))
    click.echo(said(name, errors(own, values)))
    for other in filter(None, to.split(",")):
        click.echo(said(f"{other} (left out)", errors(cases_of(other), values)))


if __name__ == "__main__":
    main()
