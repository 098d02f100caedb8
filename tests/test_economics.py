"""Price and energy of a token: hand values, exact elasticities, bad numbers."""

import dataclasses

import numpy as np
import pytest
from tolerances import EXACT, FINITE_DIFFERENCE

from qsjax import catalog
from qsjax.cost.metrics import (
    Economy,
    economy_of,
    elasticities,
    joules_per_token,
    usd_per_million_tokens,
)

ECONOMY = Economy(
    usd_per_hour=4.5, watts=700.0, utilisation=0.6, busy_power=0.8, idle_power=0.15, pue=1.3
)


def test_hand_values():
    # 4.5 USD/h over 3600 s * 50 tokens/s * 0.6 = 108,000 tokens: 41.67 USD per million.
    assert float(usd_per_million_tokens(50.0, ECONOMY)) == pytest.approx(41.6666667, rel=1e-8)
    # 1.3 * 700 W * (0.8*0.6 + 0.15*0.4) = 491.4 W over 30 tokens/s.
    assert float(joules_per_token(50.0, ECONOMY)) == pytest.approx(16.38, rel=EXACT)


def test_full_use_draws_no_idle_power():
    full = dataclasses.replace(ECONOMY, utilisation=1.0, busy_power=1.0, pue=1.0)
    assert float(joules_per_token(50.0, full)) == 14.0


def test_elasticities_are_those_of_finite_differences():
    found = elasticities(50.0, ECONOMY)
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
    found = elasticities(50.0, free)
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
            busy_power=2.0,
            idle_power=-0.1,
            pue=0.5,
        )
    for name in ("usd_per_hour", "watts", "utilisation", "busy_power", "idle_power", "pue"):
        assert f"  {name}: " in str(caught.value)
    assert "0.6 for 60 %" in str(caught.value)
