"""The best design within limits equals brute force; refusals say what is true."""

import numpy as np
import pytest
from serving_cases import GPU, brute_force, problem
from tolerances import EXACT

from qsjax.cost.metrics import Economy, economy_of, usd_per_million_tokens
from qsjax.grid.batches import every, ladder, spacing_of
from qsjax.grid.cells import cells_of
from qsjax.grid.infeasibility import _at, refusals
from qsjax.grid.limits import LIMITS, Limits, describe, violations
from qsjax.grid.optimum import any_batch, candidates_of
from qsjax.grid.pairs import allowed_batches, score_candidates
from qsjax.grid.solution import solve

BATCHES = np.arange(1.0, 161.0)
CASES = {
    "none": Limits(),
    "tpot": Limits(max_tpot=0.011),
    "user": Limits(min_user_rate=80.0),
    "headroom": Limits(min_headroom=0.3),
    "degrees": Limits(max_tp=2.0, max_pp=2.0, max_dp=1.0),
    "price": Limits(max_usd=16.0),
    "all": Limits(max_tpot=0.02, min_headroom=0.1, max_ep=4.0, max_kvp=1.0, max_usd=30.0),
}


def best(*args, **more):
    """The solution of a problem with every batch."""
    return solve(cells_of(problem(*args, batch="best", **more)))


def refused(row=0, **more):
    """Why a cell has no design."""
    free, asked = any_batch(problem(**more))
    return refusals(cells_of(free), row, asked)


def broken(limits, found, economy):
    usd = np.asarray(usd_per_million_tokens(found["tokens_per_s_per_gpu"], economy))
    return (
        (found["tpot"] > limits.max_tpot)
        | (found["tokens_per_s_per_user"] < limits.min_user_rate)
        | (usd > limits.max_usd)
        | ((found["headroom"] < limits.min_headroom) & (limits.min_headroom > 0))
    )


@pytest.mark.parametrize("convention", ["physical", "paper"])
@pytest.mark.parametrize("case", CASES)
def test_the_winner_is_that_of_brute_force(convention, case):
    limits, economy = CASES[case], economy_of(GPU)
    degrees = {}
    for name in ("tp", "ep", "pp", "dp", "kvp"):
        most = float(getattr(limits, f"max_{name}"))
        degrees[name] = [d for d in (1.0, 2.0, 4.0, 8.0) if d <= most]
    rows, masks = brute_force(problem(convention, axes=degrees), BATCHES)
    solution = best(convention, limits=limits)
    for k, (found, runs) in enumerate(zip(rows, masks, strict=True)):
        allowed = runs & ~broken(limits, found, economy)
        assert solution.is_feasible[k] == allowed.any()
        if allowed.any():
            rate = found["tokens_per_s_per_gpu"][allowed].max()
            np.testing.assert_allclose(solution.step.tokens_per_s_per_gpu[k], rate, rtol=EXACT)
        else:
            assert refused(k, convention=convention, limits=limits)


def test_every_objective_finds_its_own_optimum():
    rows, masks = brute_force(problem(), BATCHES)
    for objective, extreme in (
        ("tpot", np.min),
        ("tokens_per_s_per_user", np.max),
        ("tokens_per_s_per_gpu", np.max),
        ("headroom", np.max),
    ):
        solution = best(objective=objective)
        cap = solution.step.capacity
        own = {"headroom": 1 - (cap.weights + cap.batch * cap.kv_per_sequence) / cap.usable}
        value = own[objective] if objective in own else getattr(solution.step, objective)
        wanted = [extreme(f[objective][r]) for f, r in zip(rows, masks, strict=True)]
        np.testing.assert_allclose(value, wanted, rtol=EXACT)
    cheapest, fastest = best(objective="usd_per_million_tokens"), best()
    assert (cheapest.step.tpot == fastest.step.tpot).all()


def test_a_limit_out_of_reach_is_reported_with_the_best_that_can_be_had():
    rows, masks = brute_force(problem(), BATCHES)
    for k, (found, runs) in enumerate(zip(rows, masks, strict=True)):
        (refusal,) = refused(k, limits=Limits(max_tpot=1e-4))
        assert (refusal.kind, refusal.limits) == ("alone", ("max_tpot",))
        least = found["tpot"][runs].min()
        np.testing.assert_allclose(refusal.possible, least, rtol=EXACT)
        assert best(limits=Limits(max_tpot=least * 1.0001)).is_feasible[k]


def test_two_limits_that_contradict_each_other_are_named_and_a_remedy_works():
    fastest = best(twins=(), objective="tpot")
    cheapest = best(twins=(), objective="usd_per_million_tokens")
    rate = cheapest.step.tokens_per_s_per_gpu[0]
    given = {
        "max_tpot": 1.1 * float(fastest.step.tpot[0]),
        "max_usd": 1.05 * float(usd_per_million_tokens(rate, economy_of(GPU))),
        "max_pp": 8.0,
    }
    assert not best(twins=(), limits=Limits(**given)).is_feasible[0]
    found = refused(twins=(), limits=Limits(**given))
    kinds = {refusal.kind: refusal for refusal in found}
    assert "alone" not in kinds
    assert kinds["together"].limits == ("max_tpot", "max_usd")
    remedies = {r.limits[0]: r.possible for r in found if r.kind == "remedy"}
    assert set(remedies) == {"max_tpot", "max_usd"}
    for name, value in remedies.items():
        enough = Limits(**(given | {name: value * (1 + 1e-9)}))
        assert best(twins=(), limits=enough).is_feasible[0]
        less = Limits(**(given | {name: value * 0.99}))
        assert not best(twins=(), limits=less).is_feasible[0]


def test_a_limit_that_is_just_met_is_kept():
    found, economy = best(twins=()), economy_of(GPU)
    step, part = found.step, found.winners.designs.partition
    met = {
        "max_tpot": step.tpot,
        "min_user_rate": step.tokens_per_s_per_user,
        "max_gpus": step.gpus,
        "max_usd": usd_per_million_tokens(step.tokens_per_s_per_gpu, economy),
    }
    for name, value in met.items():
        stricter = np.nextafter(value, 0.0 if name.startswith("max") else np.inf)
        for limit, is_kept in ((value, True), (stricter, False)):
            bits = violations(Limits(**{name: float(limit[0])}), part, GPU, step, economy)
            assert (np.asarray(bits)[0] == 0) == is_kept


def test_a_cell_in_which_nothing_fits_says_so():
    for k in range(2):
        (refusal,) = refused(k, context=2.0**39, limits=Limits(max_tpot=1.0))
        assert refusal.kind == "memory"
        assert "no sequence fits" in refusal.text


def test_batches_that_are_prescribed_are_the_only_ones():
    least = best(twins=(), objective="tpot").step.tpot[0]
    assert best(twins=(), limits=Limits(max_tpot=1.01 * least)).is_feasible[0]
    (refusal,) = refused(twins=(), batch=[64.0], limits=Limits(max_tpot=1.01 * least))
    assert refusal.possible > 1.01 * least


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_tpot=-1.0), "max_tpot"),
        (Limits(max_gpus=0.0), "max_gpus"),
        (Limits(min_headroom=1.0), "min_headroom"),
        (Limits(min_user_rate=float("nan")), "min_user_rate"),
        (Limits(max_usd=1.0), "--usd-per-hour"),
        (Limits(max_joules=1.0), "--watts"),
    ],
)
def test_a_bad_limit_is_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        problem(limits=limits, economy=Economy(usd_per_hour=0.0, watts=0.0))


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
    cells = cells_of(problem(context=1024.0, twins=(), batch="best"))
    found, _ = candidates_of(cells, cells.inputs, cells.economy)
    batch = 997.0
    assert batch not in ladder(float(found.largest.max()))
    fixed = score_candidates(found, Limits(), "tpot", np.array([batch]))
    tpot = -float(fixed.score.max())
    largest = allowed_batches(found, Limits(max_tpot=tpot * (1 + 1e-12)))
    assert largest[np.argmax(fixed.score)] == batch
    assert solve(cells).step.tpot[0] > tpot


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        # A limit that can be kept is shown on the side that can be kept too.
        ("max_tpot", 0.0123412, "TPOT <= 12.4 ms"),
        ("max_tpot", 123.412, "TPOT <= 124000 ms"),
        ("min_user_rate", 98.79, "tokens/s/user >= 98.7"),
        ("min_user_rate", 0.0, "tokens/s/user >= 0"),
        ("max_gpus", 1232.0, "GPUs <= 1232"),
    ],
)
def test_a_limit_that_can_just_be_kept_has_three_digits(name, value, said):
    assert _at(name, value) == said
