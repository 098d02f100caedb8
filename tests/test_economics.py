"""Price and energy of a token: hand values, exact elasticities, bad numbers."""

import dataclasses

import jax
import numpy as np
import pytest
from tolerances import EXACT, FINITE_DIFFERENCE

from qsjax import Partition, Problem, catalog, explain, explore
from qsjax.cost.metrics import (
    Economy,
    busy_share,
    costs,
    economy_of,
    elasticities,
    follows_load,
    joules_per_token,
    usd_per_million_tokens,
)

ECONOMY = Economy(
    usd_per_hour=4.5, watts=700.0, utilisation=0.6, power_base=0.8, idle_power=0.15, pue=1.3
)
# The nameplate from a load of 0.8264 on: 0.3 + 0.8 * 0.8264^0.7 = 1.
LAW = Economy(usd_per_hour=0.0, watts=700.0, power_base=0.3, power_gain=0.8, power_exponent=0.7)
# Mean power of a GPU [W] at up to 4 and at 128 and more requests in flight.
PUBLISHED = {
    "h100-sxm": (296, 519),
    "h200-sxm": (342, 502),
    "b200-sxm": (505, 849),
    "b300-sxm": (460, 881),
    "mi300x": (552, 743),
    "mi325x": (648, 894),
    "mi355x": (472, 837),
}
# Loads of the shipped records at these (`python -m benchmarks.power`).
LOADS = 0.14049, 0.33909


def test_hand_values():
    # 4.5 USD/h over 3600 s * 50 tokens/s * 0.6 = 108,000 tokens: 41.67 USD per million.
    assert float(usd_per_million_tokens(50.0, ECONOMY)) == pytest.approx(41.6666667, rel=1e-8)
    # 1.3 * 700 W * (0.8*0.6 + 0.15*0.4) = 491.4 W over 30 tokens/s.
    assert float(joules_per_token(50.0, ECONOMY)) == pytest.approx(16.38, rel=EXACT)


def test_full_use_draws_no_idle_power():
    full = dataclasses.replace(ECONOMY, utilisation=1.0, power_base=1.0, pue=1.0)
    assert float(joules_per_token(50.0, full)) == 14.0


def test_elasticities_are_those_of_finite_differences():
    found = elasticities(50.0, 0.5, ECONOMY)
    step = 1e-6
    for law, name in (
        (usd_per_million_tokens, "usd_per_million_tokens"),
        (joules_per_token, "joules_per_token"),
    ):
        expected = {}
        for field in dataclasses.fields(ECONOMY):
            value = getattr(ECONOMY, field.name)
            up, down = (
                float(law(50.0, dataclasses.replace(ECONOMY, **{field.name: value * factor})))
                for factor in (1 + step, 1 - step)
            )
            slope = (np.log(up) - np.log(down)) / (np.log(1 + step) - np.log(1 - step))
            if abs(slope) > FINITE_DIFFERENCE:
                expected[field.name] = slope
        expected["rate"] = -1.0
        assert set(found[name]) == set(expected)
        for field, slope in expected.items():
            assert found[name][field] == pytest.approx(slope, rel=FINITE_DIFFERENCE)


def test_without_a_price_there_is_no_elasticity_of_it():
    free = dataclasses.replace(ECONOMY, usd_per_hour=0.0, idle_power=0.0)
    found = elasticities(50.0, 0.5, free)
    assert found["usd_per_million_tokens"] == {}
    assert "idle_power" not in found["joules_per_token"]


def test_the_catalogue_is_the_default_and_a_number_overrides_it():
    h100 = catalog.hardware("h100-sxm")
    assert economy_of(h100).watts == h100.watts > 0
    given = economy_of(h100, usd_per_hour=2.0, watts=500.0, utilisation=0.5)
    assert (given.usd_per_hour, given.watts, given.utilisation) == (2.0, 500.0, 0.5)


def test_all_bad_numbers_are_named_at_once():
    with pytest.raises(ValueError, match="economy") as caught:
        economy_of(
            catalog.hardware("h100-sxm"),
            usd_per_hour=-1.0,
            watts=float("nan"),
            utilisation=60.0,
            power_base=2.0,
            power_gain=-1.0,
            power_exponent=0.0,
            idle_power=-0.1,
            pue=0.5,
        )
    for name in (field.name for field in dataclasses.fields(Economy)):
        assert f"  {name}: " in str(caught.value)
    assert "0.6 for 60 %" in str(caught.value)


def test_power_by_hand():
    # 0.25^0.7 = exp(-0.7 * 1.3862944) = 0.3789291; 0.3 + 0.8 * 0.3789291 = 0.6031433 of 700 W.
    assert float(busy_share(0.25, LAW)) == pytest.approx(0.6031433, rel=1e-7)
    assert costs(10.0, 0.25, LAW)["watts_per_gpu"] == pytest.approx(422.2003, rel=1e-6)
    # 422.2003 W over 10 tokens/s.
    assert float(joules_per_token(10.0, LAW, 0.25)) == pytest.approx(42.22003, rel=1e-6)


def test_only_a_measured_law_follows_the_load():
    assert follows_load(LAW)
    assert not follows_load(Economy(usd_per_hour=0.0, watts=700.0))


def test_power_rises_with_the_load_from_its_base_to_the_nameplate():
    loads = np.linspace(0.0, 1.0, 401)
    share = np.asarray(busy_share(loads, LAW))
    assert share[0] == 0.3
    assert np.all(np.diff(share[loads < 0.82]) > 0)
    assert np.all(share[loads > 0.83] == 1.0)


@pytest.mark.parametrize("load", [0.0, 1e-12, 0.3, 0.8264, 1.0])
def test_slopes_of_the_power_are_finite(load):
    slope = jax.grad(lambda x: joules_per_token(50.0, LAW, x))(load)
    assert np.isfinite(slope)
    if load == 0.3:
        step = 1e-6
        up, down = (float(joules_per_token(50.0, LAW, load + s)) for s in (step, -step))
        assert float(slope) == pytest.approx((up - down) / (2 * step), rel=FINITE_DIFFERENCE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_catalogue_draws_what_was_published(name):
    economy = economy_of(catalog.hardware(name))
    for load, watts in zip(LOADS, PUBLISHED[name], strict=True):
        share = economy.power_base + economy.power_gain * load**economy.power_exponent
        assert economy.watts * share == pytest.approx(watts, rel=1e-3)
        assert economy.watts * float(busy_share(load, economy)) == pytest.approx(watts, rel=1e-3)


def test_a_decode_step_has_the_load_of_its_arithmetic_and_memory():
    problem = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context=2048, batch=[1, 32, 128])
    case = explain(dataclasses.replace(problem, batch=[32]), Partition()).stated
    terms = case.parts.step
    busy = sum(float(x) for x in (*terms.compute, *terms.hbm.phases()))
    assert float(terms.busy) == pytest.approx(0.5 * busy / float(terms.tpot), rel=EXACT)
    rows = [explore(dataclasses.replace(problem, batch=[b])).rows()[0] for b in (1, 32, 128)]
    watts = [row["joules_per_token"] * row["tokens_per_s_per_gpu"] for row in rows]
    idle = float(catalog.hardware("h100-sxm").power_base) * 700
    assert idle < watts[0] < watts[1] <= watts[2] <= 700


def test_watts_that_are_stated_hold_at_any_load():
    stated = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context=2048, economy={"watts": 650.0})
    row = explore(stated).rows()[0]
    assert row["joules_per_token"] * row["tokens_per_s_per_gpu"] == pytest.approx(650.0, rel=EXACT)
    unknown = explore(dataclasses.replace(stated, hardware="a100-sxm", economy=None)).rows()[0]
    drawn = unknown["joules_per_token"] * unknown["tokens_per_s_per_gpu"]
    assert drawn == pytest.approx(400.0, rel=EXACT)
    entry = catalog.hardware_entry("a100-sxm")
    assert any("whole power at any load" in text for text in entry.assumptions)


def test_explained_costs_have_prompts_and_their_power():
    problem = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context=2048, batch=[32])
    plain = explain(problem, Partition()).record()["stated"]["costs"]
    found = explain(problem, Partition(), requests=(1920, 256))
    costs_with = found.record()["stated"]["costs"]
    rate = found.prefill.best_rate
    assert costs_with["usd_per_million_tokens"] == pytest.approx(6.88e6 / 3600 / rate, rel=EXACT)
    assert costs_with["joules_per_token"] == pytest.approx(
        costs_with["watts_per_gpu"] / rate, rel=EXACT
    )
    assert plain["prompts_on"] is None
    assert costs_with["prompts_on"] in ("GPUs of their own", "the same GPUs")
    told = "\n".join(found.remarks())
    assert "J per output token" in told
    assert "Price of h100-sxm: 6.88 USD per GPU-hour (Amazon EC2 on-demand price" in told
    stated = dataclasses.replace(problem, economy={"usd_per_hour": 2.0})
    told = "\n".join(explain(stated, Partition()).remarks())
    assert "Price of h100-sxm: 2 USD per GPU-hour (as stated)." in told
