"""The best design within limits equals brute force; refusals say what is true."""

import numpy as np
import pytest
from serving_cases import GPU, brute_force, problem
from tolerances import EXACT

from qsjax.cost.metrics import Economy, economy_of, usd_per_million_tokens
from qsjax.grid.batches import every, ladder, score_candidates, spacing_of
from qsjax.grid.limits import LIMITS, Limits, describe
from qsjax.grid.screening import candidates
from qsjax.questions.serving import serve
from qsjax.records.specs import PAPER, PHYSICAL

CASES = {
    "none": Limits(),
    "tpot": Limits(max_tpot=0.011),
    "user": Limits(min_user_rate=80.0),
    "headroom": Limits(min_headroom=0.3),
    "degrees": Limits(max_tp=2.0, max_pp=2.0, max_dp=1.0),
    "price": Limits(max_usd=16.0),
    "all": Limits(max_tpot=0.02, min_headroom=0.1, max_ep=4.0, max_kvp=1.0, max_usd=30.0),
}


def broken(limits, found, economy):
    usd = np.asarray(usd_per_million_tokens(found["tokens_per_s_per_gpu"], economy))
    return (
        (found["tpot"] > limits.max_tpot)
        | (found["tokens_per_s_per_user"] < limits.min_user_rate)
        | (usd > limits.max_usd)
        | ((found["headroom"] < limits.min_headroom) & (limits.min_headroom > 0))
    )


@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
@pytest.mark.parametrize("case", CASES)
def test_the_winner_is_that_of_brute_force(convention, case):
    limits, economy = CASES[case], economy_of(GPU)
    degrees = {}
    for name in ("tp", "ep", "pp", "dp", "kvp"):
        most = float(getattr(limits, f"max_{name}"))
        degrees[name] = [d for d in (1.0, 2.0, 4.0, 8.0) if d <= most]
    records, restricted = problem(convention, **degrees)
    found, runs = brute_force(records, restricted, convention, np.arange(1.0, 161.0))
    runs = runs & ~broken(limits, found, economy)
    served = serve(records, problem(convention)[1], convention, limits, economy)
    for one, cell in zip(served, np.ndindex(runs.shape[:-1]), strict=True):
        assert (one.best is not None) == runs[cell].any()
        if one.best is not None:
            best = found["tokens_per_s_per_gpu"][cell][runs[cell]].max()
            np.testing.assert_allclose(one.best.step.tokens_per_s_per_gpu, best, rtol=EXACT)
            assert one.refusals == ()
        else:
            assert one.refusals


def test_every_objective_finds_its_own_optimum():
    records, axes = problem(PHYSICAL)
    economy = economy_of(GPU)
    found, runs = brute_force(records, axes, PHYSICAL, np.arange(1.0, 161.0))
    for objective, name, best in (
        ("tpot", "tpot", np.min),
        ("tokens_per_s_per_user", "tokens_per_s_per_user", np.max),
        ("tokens_per_s_per_gpu", "tokens_per_s_per_gpu", np.max),
        ("headroom", "headroom", np.max),
    ):
        served = serve(records, axes, PHYSICAL, economy=economy, objective=objective)
        for one, cell in zip(served, np.ndindex(runs.shape[:-1]), strict=True):
            step = one.best.step
            cap = step.capacity
            own = 1 - (cap.weights + cap.batch * cap.kv_per_sequence) / cap.usable
            value = own if name == "headroom" else getattr(step, name)
            np.testing.assert_allclose(value, best(found[name][cell][runs[cell]]), rtol=EXACT)
    cheapest = serve(records, axes, PHYSICAL, economy=economy, objective="usd_per_million_tokens")
    fastest = serve(records, axes, PHYSICAL, economy=economy)
    assert [x.best.step.tpot for x in cheapest] == [x.best.step.tpot for x in fastest]


def test_a_limit_out_of_reach_is_reported_with_the_best_that_can_be_had():
    records, axes = problem(PHYSICAL)
    found, runs = brute_force(records, axes, PHYSICAL, np.arange(1.0, 161.0))
    served = serve(records, axes, PHYSICAL, Limits(max_tpot=1e-4))
    for one, cell in zip(served, np.ndindex(runs.shape[:-1]), strict=True):
        (refusal,) = one.refusals
        assert (refusal.kind, refusal.limits) == ("alone", ("max_tpot",))
        least = found["tpot"][cell][runs[cell]].min()
        np.testing.assert_allclose(refusal.possible, least, rtol=EXACT)
        assert serve(records, axes, PHYSICAL, Limits(max_tpot=least * 1.0001))[cell[0]].best


def test_two_limits_that_contradict_each_other_are_named_and_a_remedy_works():
    records, axes = problem(PHYSICAL, models=1)
    (fastest,) = serve(records, axes, PHYSICAL, objective="tpot")
    (cheapest,) = serve(records, axes, PHYSICAL, objective="usd_per_million_tokens")
    rate = cheapest.best.step.tokens_per_s_per_gpu
    given = {
        "max_tpot": 1.1 * fastest.best.step.tpot,
        "max_usd": 1.05 * float(usd_per_million_tokens(rate, economy_of(GPU))),
        "max_pp": 8.0,
    }
    (one,) = serve(records, axes, PHYSICAL, Limits(**given))
    kinds = {refusal.kind: refusal for refusal in one.refusals}
    assert one.best is None
    assert "alone" not in kinds
    assert kinds["together"].limits == ("max_tpot", "max_usd")
    remedies = {r.limits[0]: r.possible for r in one.refusals if r.kind == "remedy"}
    assert set(remedies) == {"max_tpot", "max_usd"}
    for name, value in remedies.items():
        enough = Limits(**(given | {name: value * (1 + 1e-9)}))
        assert serve(records, axes, PHYSICAL, enough)[0].best is not None
        less = Limits(**(given | {name: value * 0.99}))
        assert serve(records, axes, PHYSICAL, less)[0].best is None


def test_a_cell_in_which_nothing_fits_says_so():
    records, axes = problem(PHYSICAL, contexts=(2.0**39,))
    for one in serve(records, axes, PHYSICAL, Limits(max_tpot=1.0)):
        (refusal,) = one.refusals
        assert refusal.kind == "memory"
        assert "no sequence fits" in refusal.text


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_tpot=-1.0), "max_tpot"),
        (Limits(max_gpus=0.0), "max_gpus"),
        (Limits(min_headroom=1.0), "min_headroom"),
        (Limits(min_user_rate=float("nan")), "min_user_rate"),
        (Limits(max_usd=1.0), "usd-per-hour"),
        (Limits(max_joules=1.0), "--watts"),
    ],
)
def test_a_bad_limit_is_refused(limits, message):
    records, axes = problem(PHYSICAL)
    with pytest.raises(ValueError, match=message):
        serve(records, axes, PHYSICAL, limits, Economy(usd_per_hour=0.0, watts=0.0))


def test_every_limit_has_words():
    for name in LIMITS:
        assert describe(Limits(**{name: 0.5}), name)


@pytest.mark.parametrize("largest", [1.0, 3.0, 64.0, 65.0, 1000.0, 123456.0])
def test_the_ladder_is_dense_at_first_and_ends_at_the_largest(largest):
    steps = ladder(largest)
    assert (steps == np.unique(steps)).all()
    assert steps[-1] == largest
    assert set(every(min(largest, 64.0))) <= set(steps)
    assert spacing_of(steps) <= 0.02
    assert (spacing_of(steps) == 0) == (largest <= 66)


def test_a_batch_between_two_steps_of_the_ladder_is_found_under_a_limit():
    records, axes = problem(PHYSICAL, contexts=(1024.0,))
    free = serve(records, axes, PHYSICAL)[0]
    found = candidates(records, axes, (0, 0, 0), PHYSICAL)
    batch = 997.0
    assert batch not in ladder(float(found.largest.max()))
    fixed = score_candidates(found, Limits(), economy_of(GPU), PHYSICAL, "tpot", np.array([batch]))
    tpot = -float(fixed.score.max())
    scores = score_candidates(found, Limits(max_tpot=tpot * (1 + 1e-12)), economy_of(GPU), PHYSICAL)
    assert scores.largest[np.argmax(fixed.score)] == batch
    assert free.best.step.tpot > tpot
