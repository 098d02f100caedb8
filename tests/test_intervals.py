"""Intervals: their widths by group, their calibration on groups left out, and what they decide."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

import qsjax as qs
from benchmarks import spreads as building
from qsjax.engines import spread as spreads
from qsjax.engines.rules import generation_of
from qsjax.engines.spread import Error, Spread, load_spread
from qsjax.evidence.measurements import load_left_out
from qsjax.evidence.validation import left_out
from qsjax.grid.case import best_case
from qsjax.grid.cells import cells_of
from qsjax.grid.intervals import NamedCase, Names, error_of_case, lead_at_rate, lead_of
from qsjax.numerics.loading import in_float64
from qsjax.questions.explain.answers import explained

TOY = Spread(
    width=0.2,
    ratios={
        "engine": {"a": 0.5, "b": 3.0},
        "generation": {"old": 1.0, "new": 2.0},
        "kind": {"MoE": 1.0, "dense": 1.0},
        "regime": {"bandwidth-bound": 1.0},
    },
    records={
        "engine": {"a": 100, "b": 10},
        "generation": {"old": 50, "new": 60},
        "kind": {"MoE": 60, "dense": 50},
        "regime": {"bandwidth-bound": 110},
    },
    left={
        "": 1.0, "engine": 1.0, "accelerator": 1.0, "model": 1.0, "engine accelerator": 0.5,
        "engine model": 1.0, "accelerator model": 1.0, "engine accelerator model": 0.1,
    },
    quantiles=np.array([[0.5, 0.8, 0.9], [0.7, 1.3, 1.6]]),
    constants=("x", "y"),
    covariance=np.array([[0.01, 0.0], [0.0, 0.04]]),
)  # fmt: skip


def groups(engine="a", generation="old"):
    names = {"engine": engine, "generation": generation, "kind": "MoE", "regime": "bandwidth-bound"}
    return {factor: np.array([name]) for factor, name in names.items()}


def error(slopes=None, **names):
    return spreads.error_of(TOY, groups(**names), slopes)


def test_chances_are_those_of_the_measured_quantiles():
    assert spreads.chance_below(TOY, 0.0) == 0.5
    assert spreads.chance_below(TOY, 0.7) == pytest.approx(0.75)  # half of the errors are within
    assert spreads.chance_below(TOY, -0.7) == pytest.approx(0.25)
    assert spreads.chance_below(TOY, -1.0) == pytest.approx(0.5 - 0.325)


def test_widths_by_hand():
    assert error().variance == pytest.approx([0.04 * 0.5])
    # Not stated: as all engines. Never measured: the widest generation, and the widest engine.
    assert error(engine="").variance == pytest.approx([0.04])
    assert error(engine="", generation="unknown").variance == pytest.approx([0.04 * 3.0 * 2.0])
    assert error(engine="a", generation="unknown").variance == pytest.approx([0.04 * 0.5 * 2.0])
    # The fit's part: 0.01 * 2**2 + 0.04 * 1.
    sigma = spreads.deviation(TOY, error(np.array([[2.0, 1.0]])))
    assert sigma == pytest.approx([math.sqrt(0.02 + 0.04 + 0.04)])
    assert spreads.factor_of(TOY, error()) == pytest.approx([math.exp(1.3 * math.sqrt(0.02))])


def test_an_interval_says_what_it_rests_on():
    assert error().rests_on == ["MoE, old, a, bandwidth-bound: 50 measurements"]
    assert "any engine" in error(engine="").rests_on[0]
    (unmeasured,) = error(generation="").rests_on
    assert unmeasured == "no measurement of this hardware: the widest interval of all"


def test_levels():
    assert spreads.quantile(TOY, 0.65) == pytest.approx(1.0)
    assert spreads.quantile(TOY, 0.25) == pytest.approx(0.35)
    for level in (0.0, 1.0, -0.2, 1.5, math.nan, "80%"):
        with pytest.raises(ValueError, match="give a probability between 0 and 1"):
            spreads.quantile(TOY, level)


def test_chances_agree_with_the_quantiles():
    assert spreads.chance_below(TOY, 0.0) == 0.5
    assert spreads.chance_below(TOY, 1.3) == pytest.approx(0.9)
    assert spreads.chance_below(TOY, -1.3) == pytest.approx(0.1)
    assert spreads.chance_below(TOY, 1e9) == 1.0


def test_what_two_designs_share_cancels():
    both = Error(np.array([0.02, 0.06]), np.zeros((2, 2)), [])
    for shared, left in ((set(), 1.0), ({"engine", "accelerator"}, 0.5)):
        found = spreads.difference(TOY, both, 1.5, frozenset(shared), (0, 1))
        assert found.mean == pytest.approx(math.log(1.5))
        assert found.sigma == pytest.approx(math.sqrt(left * 0.08))
        # Kalman: covariance of the difference and the measurement, squared, over both variances.
        first = (left - 0.1) * 0.02
        assert found.gains[0] == pytest.approx(first**2 / 0.02 / (left * 0.08))
        assert found.gains[1] > found.gains[0]
    # The same dependence on a constant cancels, an opposite one adds up.
    alike = Error(np.zeros(2), np.array([[1.0, 0.0], [1.0, 0.0]]), [])
    assert spreads.difference(TOY, alike, 1.0, frozenset(), (0, 1)).sigma == 0.0
    apart = Error(np.zeros(2), np.array([[1.0, 0.0], [-1.0, 0.0]]), [])
    assert spreads.difference(TOY, apart, 1.0, frozenset(), (0, 1)).sigma == pytest.approx(0.2)


def draws(widths, counts, seed=0):
    """Rows of left-out errors: normal with a width by engine; configurations of one record."""
    rng, rows = np.random.default_rng(seed), []
    for (engine, width), count in zip(widths.items(), counts, strict=True):
        for k in range(count):
            value = float(width * rng.standard_normal())
            accelerator = ("h100", "b200")[k % 2]
            rows.append(
                {
                    "id": f"{engine}-{k}", "engine": engine, "accelerator": accelerator,
                    "generation": accelerator, "model": f"m{k % 5}", "kind": "MoE",
                    "regime": "bandwidth-bound", "configuration": f"{engine}-{k // 2}",
                    "fit_variance": 0.0,
                    **{f"without_{by}": value for by in ("accelerator", "engine", "model")},
                }
            )  # fmt: skip
    return rows


def test_known_widths_are_recovered_and_small_groups_are_drawn_to_all():
    rows = draws({"tight": 0.05, "wide": 0.2, "one": 2.0}, (600, 600, 2))
    found = building.spread_from(building.errors_of(rows))
    ratios = found.ratios["engine"]
    assert math.sqrt(ratios["wide"] / ratios["tight"]) == pytest.approx(4.0, rel=0.15)
    assert found.width * math.sqrt(ratios["wide"]) == pytest.approx(0.2, rel=0.15)
    assert found.ratios["generation"]["h100"] == pytest.approx(1.0, abs=0.15)
    # Two records beside a prior of eight: a fifth of their own variance at most.
    assert 1.0 < ratios["one"] < 0.25 * (2.0 / found.width) ** 2
    assert found.records["engine"] == {"one": 2, "tight": 600, "wide": 600}


def test_intervals_of_groups_left_out_hold_what_they_say():
    """With widths and quantiles made without the group: 75 to 85 % in intervals of 80 %."""
    errors = building.errors_of(load_left_out())
    scores = building.scores(errors)
    for level, low, high in ((0.8, 0.75, 0.85), (0.5, 0.42, 0.58), (0.9, 0.85, 0.95)):
        counts = building.coverage(errors, scores, level).values()
        held = sum(inside for _, inside in counts) / sum(total for total, _ in counts)
        assert low <= held <= high, level
    # Half the width would not do.
    bound = 0.5 * np.interp(0.8, *building.quantiles_of(scores))
    assert np.mean(np.abs(scores) <= bound) < 0.7


def test_the_shipped_spread_is_that_of_the_shipped_errors():
    rows, shipped = load_left_out(), load_spread()
    found = building.build(rows, shipped.constants, shipped.covariance)
    assert found.width == pytest.approx(shipped.width, rel=1e-3)
    assert found.records == shipped.records
    np.testing.assert_allclose(found.quantiles, shipped.quantiles, rtol=1e-3)
    for factor, ratios in found.ratios.items():
        assert shipped.ratios[factor] == pytest.approx(ratios, rel=1e-3)
    assert found.left == pytest.approx(shipped.left, rel=1e-3)
    assert found.left["engine accelerator model"] < found.left["engine accelerator"] < 1.0


def test_errors_of_groups_left_out_by_hand():
    rows = [row for row in load_left_out() if row["accelerator"] == "h200-sxm"]
    size = [abs(100 * (math.exp(-float(row["without_accelerator"])) - 1)) for row in rows]
    found = left_out()["accelerator"]["h200-sxm"]
    assert found["predicted"] == len(rows)
    assert found["median_abs_error_pct"] == pytest.approx(float(np.median(size)))
    assert left_out()["model"]["all"]["predicted"] == len(load_left_out())


def test_an_engine_without_measurements_is_told_with_what_stands_for_it():
    assert spreads.nearest_engine("vllm") == ("vllm", "")
    assert spreads.nearest_engine("") == ("", "")
    used, note = spreads.nearest_engine("lmdeploy")
    assert used == ""
    assert "'lmdeploy': intervals are those of all measured ones (" in note
    asked = qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k")
    found = explained(asked, None, "vlm")
    assert found.engine == "vllm"
    assert any("no measurements of the engine 'vlm'" in line for line in found.notes)
    assert "vllm" in found.rows()[0]["interval_rests_on"]


def test_generations():
    assert generation_of("gb200-nvl72") == "blackwell"
    assert generation_of("h20-96g") == generation_of("h100-sxm") == "hopper"
    assert generation_of("paper-reference") == generation_of("gaudi-3") == ""


@pytest.fixture(scope="module")
def explored():
    asked = qs.Problem("mixtral-8x7b", ["h100-sxm", "paper-reference"], gpus=8, context="8k")
    return qs.explore(asked), qs.explore(asked, level=0.95)


def test_every_explored_cell_has_an_interval(explored):
    for found in explored:
        data = found.dataset
        for row in found.rows():
            at = data.sel(hardware=row["hardware"])
            assert row["tpot_low"] < row["tpot"] < row["tpot_high"]
            rate = row["tokens_per_s_per_gpu"]
            assert row["tokens_per_s_per_gpu_low"] / rate == pytest.approx(
                row["tpot"] / row["tpot_high"]
            )
            assert float(at.tpot_high) == row["tpot_high"]
            assert at.tpot_high.attrs["units"] == "s"
        assert data.attrs["level"] == found.level
    measured, ideal = explored[0].rows()
    assert "hopper" in measured["interval_rests_on"]
    assert ideal["interval_rests_on"].startswith("no measurement of this hardware")
    width = [row["tpot_high"] / row["tpot"] for row in (measured, ideal)]
    assert width[1] > width[0]
    assert explored[1].rows()[0]["tpot_high"] > measured["tpot_high"]


def sides(asked):
    stated = asked.stated
    pairs = [(m, h) for m in range(len(stated.models)) for h in range(len(stated.accelerators))]
    return [
        NamedCase(
            best_case(cells_of(asked, m, h), 0),
            Names(stated.accelerators[h].name, stated.models[m].name),
        )
        for m, h in pairs
    ]


def test_slopes_are_the_derivatives_of_the_time():
    (side,) = in_float64(sides)(qs.Problem("llama-3.1-70b", "h100-sxm", gpus=8, context="8k"))
    found = error_of_case(side)
    records, names = side.case.records, load_spread().constants
    assert records.workload.batch > 1
    for name in ("eff_weight_read", "layer_overhead"):
        times = []
        for factor in (1.001, 0.999):
            chip = dataclasses.replace(
                records.hardware, **{name: factor * float(getattr(records.hardware, name))}
            )
            step = qs.decode(
                records.model, chip, records.partition, context=8192, workload=records.workload
            )
            times.append(float(step.tpot))
        slope = math.log(times[0] / times[1]) / math.log(1.001 / 0.999)
        assert found.slopes[0, names.index(name)] == pytest.approx(slope, rel=2e-2, abs=1e-5)


def test_leads():
    asked = qs.Problem(["llama-3.1-70b", "qwen3-32b"], ["h100-sxm", "h200-sxm"], gpus=8)
    asked = dataclasses.replace(asked, context="8k")
    first, faster, other, _ = in_float64(sides)(asked)
    same = lead_of(first, first)
    assert (same.chance, same.is_sure) == (0.5, False)
    up, down = lead_of(faster, first), lead_of(first, faster)
    assert up.chance + down.chance == pytest.approx(1.0)
    assert up.chance > 0.5
    assert up.margin == pytest.approx(down.margin)
    # On one accelerator less can differ than on two.
    alike = lead_of(other, first)
    elsewhere = lead_of(other._replace(names=other.names._replace(accelerator="h20-96g")), first)
    assert alike.margin < elsewhere.margin
    assert alike.chance > elsewhere.chance > 0.5


def test_a_comparison_says_when_the_difference_is_smaller_than_the_error():
    asked = qs.Problem("mixtral-8x7b", ["h100-sxm", "h200-sxm", "b200-sxm"], gpus=8, context="8k")
    found = qs.compare(asked)
    (decision,) = found.decisions()
    assert decision.winner == "b200-sxm"
    assert decision.is_sure == (decision.chance >= 0.9) == (decision.factor >= decision.margin)
    rows = {row["subject"]: row for row in found.rows()}
    assert "chance" not in rows["h100-sxm"]
    assert 0.5 < rows["h200-sxm"]["chance"] < rows["b200-sxm"]["chance"] <= 1.0
    assert rows["h200-sxm"]["tpot_low"] < rows["h200-sxm"]["tpot"]
    closer = qs.compare(dataclasses.replace(asked, hardware=["h100-sxm", "h800-sxm"]))
    (open_,) = closer.decisions()
    assert not open_.is_sure
    assert "is within the error" in str(open_)
    assert open_.measure in ("h100-sxm", "h800-sxm")
    assert 0.0 <= open_.removes <= 1.0
    assert json.dumps(closer.record()["decisions"])


def test_explore_is_as_sure_of_a_twin_as_compare_is():
    asked = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=["1k", "8k", "32k"], twins=5)
    found, beside = qs.explore(asked), qs.compare(asked)
    twins = [row for row in found.rows() if row["q"]]
    judged = [row for row in beside.rows() if "chance" in row]
    np.testing.assert_allclose([r["chance_over_moe"] for r in twins], [r["chance"] for r in judged])
    assert [row["is_sure"] for row in judged] == [True, False, False]
    said = found.summary().splitlines()[1]
    assert re.search(r"at 32k \(within the error\), \d+ % slower at 1k\.$", said)
    assert re.search(r" at 1k to \d+ % less at 32k \(within the error\)", beside.summary())
    assert "chance_over_moe" in found.dataset


def test_explore_and_pareto_are_as_sure_of_an_accelerator_as_compare_is():
    """The lead of H200 at 1k, 16 %, is within the error, which neither of them said."""
    asked = qs.Problem("llama-3.1-70b", ["h200-sxm", "h100-sxm", "b200-sxm"], gpus=8, context="1k")
    pair = dataclasses.replace(asked, hardware=["h200-sxm", "h100-sxm"])
    (judged,) = (row for row in qs.compare(pair).rows() if "chance" in row)
    assert not judged["is_sure"]
    assert " on h100-sxm it is 16 % slower (within the error)." in qs.explore(pair).summary()
    assert "(within the error)" not in qs.explore(asked).summary().splitlines()[1].split(" and ")[0]
    found = qs.pareto(pair)
    # At a rate that the largest batches keep the lead is theirs, and its error too.
    slowest = min(row["tokens_per_s_per_user"] for row in found.rows())
    (idle,) = found.leads([0.5 * slowest])
    assert 1.0 - idle["chance"] == pytest.approx(judged["chance"], rel=1e-9)
    assert idle["margin"] == pytest.approx(judged["margin"], rel=1e-9)
    assert "37 % more than h100-sxm on each GPU (within the error)" in found.summary()
    assert found.record()["leads"][0]["rival"] == "h100-sxm"
    assert {"tpot_low", "tpot_high", "interval_rests_on"} <= found.rows()[0].keys()
    paper = qs.pareto(dataclasses.replace(pair, convention="paper"))
    assert "chance" not in paper.leads()[0]


def test_near_the_fastest_design_an_error_of_the_time_is_far_more_in_throughput():
    asked = qs.Problem("llama-3.1-70b", ["b200-sxm", "h200-sxm"], gpus=8, context="8k")
    found = qs.pareto(asked)
    first, second = found.fronts
    margins = [lead["margin"] for lead in found.leads([20.0, 40.0, 70.0])]
    assert 1.0 < margins[0] < margins[1] < margins[2]
    # What just misses a rate may keep it.
    just = 1.02 * float(second.user[0])
    (alone,) = found.leads([just])
    assert (alone["rival"], alone["is_sure"]) == (None, False)
    sure = lead_at_rate(first, second, 1 / 40.0)
    assert sure.margin == pytest.approx(margins[1])
    assert lead_at_rate(first, second, 1e-6) is None
    down = lead_at_rate(second, first, 1 / 40.0)
    assert sure.chance + down.chance == pytest.approx(1.0)


def test_weights_of_two_errors():
    """Var(2 a - b) of errors that are half the same: 4 + 1 - 2 times their common part."""
    two = Error(np.array([0.04, 0.04]), np.zeros((2, 2)), [])
    shared = frozenset({"engine", "accelerator"})  # half of the variance is left
    found = spreads.difference(TOY, two, 1.0, shared, (0, 1), (2.0, 1.0))
    assert found.sigma**2 == pytest.approx(0.04 * (4 + 1) - 2 * 2 * 0.5 * 0.04)
    slopes = Error(np.zeros(2), np.array([[1.0, 0.0], [2.0, 0.0]]), [])
    assert spreads.difference(TOY, slopes, 1.0, shared, (0, 1), (2.0, 1.0)).sigma == 0.0


def test_variants_of_one_model_or_accelerator_err_alike():
    """Another cache or a faster link is no other model, nor another accelerator."""
    caches = [qs.served("llama-3.1-70b"), qs.served("llama-3.1-70b", kv="fp8")]
    (cache,) = qs.compare(qs.Problem(caches, "h100-sxm", gpus=8, context="8k")).decisions()
    chip = qs.hardware("h100-sxm")
    links = [chip, chip.replace(intra_bw=2.0 * chip.intra_bw)]
    (link,) = qs.compare(qs.Problem("llama-3.1-70b", links, gpus=8, context="8k")).decisions()
    others = qs.Problem("llama-3.1-70b", ["h100-sxm", "h200-sxm"], gpus=8, context="8k")
    (other,) = qs.compare(others).decisions()
    assert max(cache.margin, link.margin) < other.margin


def test_a_picture_shows_the_ratios_and_how_sure_they_are():
    chips = ["h100-sxm", "h200-sxm", "h800-sxm"]
    found = qs.compare(qs.Problem("mixtral-8x7b", chips, gpus=8, context=["8k", "32k"]))
    ax = found.plot("sure")
    rows = [row for row in found.rows() if "chance" in row]
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2][: len(rows)]
    for row, (low, high) in zip(rows, bars, strict=True):
        assert low == pytest.approx(row["factor"] / row["margin"])
        assert high == pytest.approx(row["factor"] * row["margin"])
    said = {text.get_text() for text in ax.texts}
    assert {f"{100 * row['chance']:.0f} %" for row in rows} == said
    assert "2 of 4 differences" in ax.get_title(loc="left").replace("\n", " ")
    paper = qs.compare(qs.Problem("mixtral-8x7b", chips, gpus=8, context="8k", convention="paper"))
    assert "sure" not in paper.drawings()


def test_a_level_that_is_no_probability_is_refused():
    asked = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k")
    for question in (qs.explore, qs.explain, qs.compare):
        with pytest.raises(ValueError, match="level: 80 is not allowed"):
            question(asked, level=80)
