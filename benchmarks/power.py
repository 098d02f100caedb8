r"""`python -m benchmarks.power`: the power of GPUs against their load, from what they drew.

Load is the mean of the shares of the time in which arithmetic and HBM run, with prompts, as the
model says of the InferenceX records that ship with the package. Two published means of power, at
few and at many requests in flight, give what a GPU draws at no load and what it adds at full load:

    watts = nameplate * (base + gain * load ^ exponent)

at the exponent of `HardwareSpec`. All GPUs take the loads of all records: the published means are
of whole sweeps, of which the package has a part, another one for each GPU.
"""

import dataclasses
import json
import sys

import click
import numpy as np

from qsjax import catalog
from qsjax.evidence.measurements import Case, load_records, read_cases
from qsjax.evidence.measurements.predict import batches, outcomes
from qsjax.numerics.loading import in_float64
from qsjax.numerics.safe import scalar
from qsjax.records.specs import HardwareSpec

# Mean power of a GPU [W] at up to 4 and at 128 and more requests in flight.
PUBLISHED = {
    "h100-sxm": (296.0, 519.0),
    "h200-sxm": (342.0, 502.0),
    "b200-sxm": (505.0, 849.0),
    "b300-sxm": (460.0, 881.0),
    "mi300x": (552.0, 743.0),
    "mi325x": (648.0, 894.0),
    "mi355x": (472.0, 837.0),
}
SOURCE = "InferenceX public results to 2026-07"
FEW, MANY = 4.0, 128.0
CATEGORY = "inferencex_agg"


def loads() -> tuple[np.ndarray, np.ndarray]:
    """Requests in flight, and load, of all records."""
    records = [record for record in load_records() if record["category"] == CATEGORY]
    cases = [case for case in read_cases(records) if isinstance(case, Case)]
    built, position = batches(cases)
    found = outcomes(built, position, {})
    first = np.cumsum([0, *(len(case.deployments) for case in cases[:-1])])
    ones = [case.deployments[0] for case in cases]
    users = [scalar(one.workload.batch) * scalar(one.partition.dp) for one in ones]
    return np.array(users), found.busy[first]


def mean_power(users: np.ndarray, load: np.ndarray, exponent: float) -> tuple[float, float]:
    """Mean of load ^ exponent at few and at many requests in flight."""
    grown = load**exponent
    return float(grown[users <= FEW].mean()), float(grown[users >= MANY].mean())


def fit(
    watts: tuple[float, float], nameplate: float, grown: tuple[float, float]
) -> tuple[float, float]:
    """`base` and `gain` that give both means.

    >>> fit((300.0, 500.0), 1000.0, (0.1, 0.5))
    (0.25, 0.5)
    """
    gain = (watts[1] - watts[0]) / nameplate / (grown[1] - grown[0])
    return round(watts[0] / nameplate - gain * grown[0], 4), round(gain, 4)


@in_float64
def fitted() -> dict[str, dict[str, float]]:
    """Both numbers of every GPU, and what they rest on."""
    exponent = next(
        field.default
        for field in dataclasses.fields(HardwareSpec)
        if field.name == "power_exponent"
    )
    grown = mean_power(*loads(), exponent)
    found = {}
    for name, watts in PUBLISHED.items():
        nameplate = scalar(catalog.hardware(name).watts)
        base, gain = fit(watts, nameplate, grown)
        found[name] = {
            "power_base": base,
            "power_gain": gain,
            "load_few": grown[0] ** (1.0 / exponent),
            "load_many": grown[1] ** (1.0 / exponent),
        }
    return found


@click.command()
def main() -> None:
    """Fit the law to the published means."""
    json.dump(fitted(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
