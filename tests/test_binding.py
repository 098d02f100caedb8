"""Elasticities along the front equal differences of the plain-Python oracle."""

import math
import types

import numpy as np
import oracle
import pytest
from click.testing import CliRunner
from serving_cases import problem, specs_of
from tolerances import EXACT

import qsjax as qs
from qsjax.cli import cli
from qsjax.records.specs import DEGREES, KV_MODES

STEP = 1e-5
DIFFERENCE = 2e-4  # of a slope divided by a slope, each by a difference
PARAMETERS = ("hbm_bw", "intra_bw", "layer_overhead", "hbm_bytes")


def small(convention="physical", **more):
    """Splits over tensor, expert and data parallelism only: few enough for plain Python."""
    return problem(convention, axes={"pp": 1, "kvp": 1}, **more)


@pytest.fixture(scope="module", params=["physical", "paper"])
def found(request):
    asked = small(request.param)
    return asked, qs.binding(asked, PARAMETERS, points=6)


def plain(record):
    return types.SimpleNamespace(**{name: getattr(record, name) for name in record.__slots__})


def step_of(asked, row, batch, **changed):
    """The oracle's step of the design of a row, with other hardware numbers."""
    stated = asked.stated
    spec = specs_of(asked)[0 if row["variant"] == "moe" else 1]
    hardware = plain(stated.accelerators[0].spec)
    vars(hardware).update(changed)
    split = plain(qs.Partition(**{name: float(row[name]) for name in DEGREES}))
    split.kv_mode = KV_MODES["kvp"]
    work = plain(stated.models[0].workload)
    work.context, work.batch = float(row["context"]), batch
    return oracle.evaluate(plain(spec), hardware, split, work, stated.rules, gpus=row["gpus"])


def batch_within(asked, row, tpot, **changed):
    """The largest batch, whole or not, whose step takes no longer."""
    low, high = 1.0, 4.0 * row["batch"] + 10.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        is_fast = step_of(asked, row, middle, **changed)["tpot"] <= tpot
        low, high = (middle, high) if is_fast else (low, middle)
    return low


def test_the_batch_that_a_rate_buys_is_that_of_bisection(found):
    """At the same tokens/s/user, throughput rises as the batch does."""
    asked, answer = found
    chip = asked.stated.accelerators[0].spec
    rows = [row for row in answer.rows() if row["limited_by"] == "interactivity"]
    rows = [row for row in rows if row["batch"] > 1]
    assert {row["variant"] for row in rows} == {"moe", "dense"}
    for row in rows[:: max(1, len(rows) // 12)]:
        at = getattr(chip, row["parameter"])
        # Above: where the batch is at a kink, the slope is that of a larger one.
        sides = [
            batch_within(asked, row, row["tpot"] * (1 + 2 * STEP), **{row["parameter"]: at * x})
            for x in (1 - STEP, 1 + STEP)
        ]
        slope = math.log(sides[1] / sides[0]) / math.log((1 + STEP) / (1 - STEP))
        assert row["elasticity"] == pytest.approx(slope, rel=DIFFERENCE, abs=DIFFERENCE), row


def test_the_largest_batch_moves_with_the_memory(found):
    asked, answer = found
    chip = asked.stated.accelerators[0].spec
    rows = [row for row in answer.rows() if row["limited_by"] == "memory"]
    assert rows
    for row in rows:
        name, batch = row["parameter"], float(row["batch"])
        at = getattr(chip, name)

        def log_rate(b, value, row=row, name=name):
            return math.log(step_of(asked, row, b, **{name: value})["tokens_per_s_per_gpu"])

        def largest(value, row=row, name=name):
            mem = step_of(asked, row, None, **{name: value})
            return (mem["usable_bytes"] - mem["weights_bytes"]) / mem["kv_bytes_per_seq"]

        low, high = at * (1 - STEP), at * (1 + STEP)
        width = math.log(high / low)
        own = (log_rate(batch, high) - log_rate(batch, low)) / width
        in_batch = log_rate(batch * (1 + STEP), at) - log_rate(batch * (1 - STEP), at)
        moves = (largest(high) - largest(low)) / batch / width
        slope = own + moves * in_batch / math.log((1 + STEP) / (1 - STEP))
        assert row["elasticity"] == pytest.approx(slope, rel=DIFFERENCE, abs=DIFFERENCE), row
        assert row["batch"] == math.floor(largest(at) + EXACT)


def test_shares_of_everything_sum_to_the_step():
    """Euler: a step takes half as long on hardware that is twice as fast in everything."""
    answer = qs.binding(small(), points=5)
    for own in (front.slopes for front in answer.fronts):
        names = [parameter.name for parameter in answer.parameters]
        signs = np.array([-1.0 if n in ("latency", "overhead") else 1.0 for n in names])
        signs[names.index("hbm_bytes")] = 0.0
        np.testing.assert_allclose(signs @ own.share, 1.0, rtol=1e-9)
        assert (own.amplification >= 1.0 - EXACT).all()


def test_price_and_energy_follow_throughput_and_their_own_inputs():
    asked = small(economy={"usd_per_hour": 2.0, "watts": 700.0})
    rows = qs.binding(asked, ["hbm_bw", "usd_per_hour", "watts"], points=3).rows()
    for row in rows:
        for name, own in (
            ("usd_per_million_tokens", "usd_per_hour"),
            ("joules_per_token", "watts"),
        ):
            expected = float(row["parameter"] == own) - row["elasticity"]
            assert row[f"elasticity_{name}"] == pytest.approx(expected, abs=EXACT)
    bandwidth = [row for row in rows if row["parameter"] == "hbm_bw"]
    assert all(row["elasticity_usd_per_million_tokens"] < 0 for row in bandwidth)


def test_the_answer_says_what_binds_and_where(found, tmp_path):
    _, answer = found
    begins = "On 8 h100-sxm at 64k, mixtral-8x7b is bound by "
    assert answer.summary().startswith(begins)
    data = answer.dataset
    assert list(data["parameter"].values) == list(PARAMETERS)
    assert data["elasticity"].attrs["units"] == "1"
    bands = [band for band in answer.bands() if band["label"] == "MoE"]
    rates = [row["tokens_per_s_per_user"] for row in answer.rows() if row["label"] == "MoE"]
    assert bands[0]["to"] == max(rates)
    assert bands[-1]["from"] == min(rates)
    assert {"bands.svg", "bands-2.svg"} <= {path.name for path in answer.save(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"points": 1}, "points: 1 is not allowed"),
        ({"points": 2.5}, "points: 2.5 is not allowed"),
        ({"parameters": ["hbm"]}, "'hbm' is not a parameter"),
        ({"parameters": ["tp"]}, "tp has no derivative"),
    ],
)
def test_mistakes_are_told(arguments, says):
    with pytest.raises(ValueError, match=says):
        qs.binding(small(), **arguments)


def test_a_headroom_is_told_to_be_a_smaller_memory():
    with pytest.raises(ValueError, match="usable_fraction"):
        qs.binding(small(limits=qs.Limits(min_headroom=0.1)))


def test_nothing_that_runs_is_an_answer():
    answer = qs.binding(problem(gpus=1, context=1e6), points=3)
    assert answer.rows() == []
    assert answer.drawings() == {}
    assert answer.summary() == "Nothing runs."
    assert "1,000,000 tokens" in answer.remarks()[0]


def test_the_verb_prints_a_table_and_tells_mistakes():
    flags = ["binding", "mixtral-8x7b", "--hardware", "h100-sxm", "--gpus", "2", "--context", "32k"]
    done = CliRunner().invoke(cli, [*flags, "--points", "3", "--parameter", "hbm_bw,flops"])
    assert done.exit_code == 0, done.output
    assert "mixtral-8x7b is bound by" in done.output
    wrong = CliRunner().invoke(cli, [*flags, "--parameter", "hbm"])
    assert wrong.exit_code == 2
    assert "did you mean" in wrong.output


def test_points_have_intervals_and_the_error_at_a_rate_is_told():
    found = qs.binding(qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k"), points=4)
    row = found.rows()[0]
    assert row["tpot_low"] < row["tpot"] < row["tpot_high"]
    low, high = (f(r["amplification"] for r in found.rows()) for f in (min, max))
    told = f"an error of 1 % in TPOT is one of {low:.2g} to {high:.2g} % in tokens/s/GPU."
    assert any(told in line for line in found.remarks())
    assert any(line.startswith("Intervals of 80 % rest on ") for line in found.remarks())
