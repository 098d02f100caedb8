"""Bounds of designs over boxes, held against dense sampling of the laws themselves.

A value outside its bounds is a defect, so sampling is hard: corners, edges and the interior, every
model of the catalogue, both conventions, and hardware with every loss and overlap.
"""

import dataclasses

import numpy as np
import pytest

import qsjax as qs
from qsjax.grid.bounds import Boxes, Judge, region_of
from qsjax.grid.cells import cells_of, take
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import HARDWARE_PARAMETERS, bounds, read, resolve
from qsjax.grid.proofs import Arena, Claim, lead
from qsjax.numerics.enclosing import enclose, fingerprint
from qsjax.numerics.intervals import EXACT, ROUNDING, absolute_slopes, range_of
from qsjax.numerics.namespace import xp
from qsjax.numerics.safe import at_least, blend, ceil, floor
from qsjax.records.fields import numbers_of
from qsjax.records.specs import CONVENTIONS

# One model of each kind: those with the same fields differ in numbers alone.
KINDS = {tuple(numbers_of(qs.model(name)).values()): name for name in qs.model_names()}
MODELS = sorted({tuple(map(bool, values)): name for values, name in KINDS.items()}.values())
MOST = 40  # designs of a model that are sampled
SAMPLES = 240


def laws():
    """Functions of two numbers that use every rule, with boxes in which they are defined."""
    positive, mixed = ((0.3, 2.0), (0.5, 3.0)), ((-1.5, 2.0), (-2.0, 0.7))
    return {
        "sum": (lambda x, y: x + y, mixed),
        "difference": (lambda x, y: x - 0.4 * y, positive),
        "product": (lambda x, y: x * y, mixed),
        "quotient": (lambda x, y: x / y, positive),
        "quotient of what changes sign": (lambda x, y: x / (y + 4.0), mixed),
        "harmonic sum": (lambda x, y: 1.0 / (1.0 / x + 1.0 / y), positive),
        "saturating": (lambda x, y: x / (x + y), positive),
        "roof": (lambda x, y: xp.maximum(x, y) + xp.minimum(x, 1.0), positive),
        "exposed": (lambda x, y: x + xp.maximum(0.0, y - 0.7 * x), positive),
        "blend": (lambda x, y: (x**2.5 + y**2.5) ** (1.0 / 2.5), positive),
        "partly added": (lambda x, y: blend(x, y, 0.3), positive),
        "partly added, by a share that varies": (
            lambda x, y: blend(2.0 * x, x * y, y / 3),
            positive,
        ),
        "apart": (lambda x, y: xp.abs(x - y) + 0.1 * x, mixed),
        "size of a product": (lambda x, y: xp.abs(x * y), mixed),
        "cheaper law": (lambda x, y: xp.minimum(1.0 + x, 0.2 + 3.0 * x) * y, positive),
        "coverage": (lambda x, y: 1.0 - xp.exp(-x * y), positive),
        "logarithms": (lambda x, y: xp.log(x) * xp.log1p(y), positive),
        "roots": (lambda x, y: xp.sqrt(x * y) + x**3 - y**-2, positive),
        "squares": (lambda x, y: xp.square(x) - x**3 * y**2, mixed),
        "whole": (lambda x, y: floor(3.0 * x) / at_least(ceil(2.0 * y), 1.0), positive),
        "floor of what changes sign": (lambda x, y: floor(3.0 * x) + y, mixed),
        "choice": (lambda x, y: xp.where(x < y, x * y, 5.0 + x), positive),
        "sum with what changes sign": (lambda x, y: 0.09 * x + 0.01 * (y - 1.0), positive),
        "choice of what falls": (lambda x, y: xp.where(x < y, -x * y, 1.0 - x**3), positive),
        "flags": (lambda x, y: xp.where((x < 1) & ~(y > 2) | (x == y), 1.0, 0.0) + x, positive),
        "clipped": (
            lambda x, y: xp.where(x >= 1.0, x, 1.0) * xp.where(y > 2.0, 2.0, y),
            positive,
        ),
    }


def parts_of(low, high, rng, count):
    """Random boxes inside one, some without width, as two arrays."""
    ends = np.sort(rng.uniform(low, high, (count, 2)), axis=1)
    ends[::7, 1] = ends[::7, 0]
    return ends[:, 0], ends[:, 1]


@pytest.mark.parametrize("name", laws())
def test_a_law_stays_within_its_bounds_and_mean_values(name):
    law, (first, second) = laws()[name]
    rng = np.random.default_rng(len(name))
    (xl, xh), (yl, yh) = (parts_of(*ends, rng, 150) for ends in (first, second))
    found, _ = enclose(law, (xl, yl), (xh, yh), (0, 1))
    low, high = range_of(found)

    def between(a, b, t):
        is_log = np.all(a > 0)
        return a * (b / a) ** t if is_log else a + (b - a) * t

    at = rng.random((2, 4000, 1))
    at[:, :1000] = np.round(at[:, :1000])
    values = np.asarray(law(between(xl, xh, at[0]), between(yl, yh, at[1])))
    slack = 1e-12 * np.maximum(1.0, np.abs(values))
    assert (values >= low - slack).all()
    assert (values <= high + slack).all()
    middle = np.asarray(law(between(xl, xh, 0.5), between(yl, yh, 0.5)))
    reach = sum(np.fmax(np.abs(a), np.abs(b)) for a, b in absolute_slopes(found).values())
    assert (np.abs(values - middle) <= reach + 1e-9 * np.maximum(1.0, np.abs(values))).all()


def test_bounds_are_exact_where_a_law_is_monotone():
    found, _ = enclose(lambda x, y: x * x / (1.0 + y), (1.0, 2.0), (3.0, 5.0), (0, 1))
    assert range_of(found) == (1.0 / 6.0, 9.0 / 3.0)
    slopes = absolute_slopes(found)
    assert slopes[0][0] > 0 > slopes[1][1]


def test_the_slope_of_a_floor_is_steepest_at_its_lowest_step():
    """The floor of x moves by x / floor(x) in logarithms: within 1 and 2 up to twice as much."""
    found, remainders = enclose(lambda x: floor(x), (1.1,), (2.9,), (0,))
    half = 0.5 * np.log(2.9 / 1.1)
    assert found.slopes[0] == pytest.approx((half, 2.0 * half))
    assert remainders == 1


def test_what_jumps_has_no_mean_value():
    found, _ = enclose(lambda x: xp.where(x > 2.0, 1.0, 0.0), (1.0,), (3.0,), (0,))
    assert range_of(found) == (0.0, 1.0)
    assert absolute_slopes(found)[0] == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ((1.0, 1.0), (1.0, 1.0), (True, True)),
        ((1.0, 2.0), (1.0, 1.0), (False, True)),
        ((1.0, 1.0), (1.0, 2.0), (False, True)),
        ((1.0, 2.0), (3.0, 4.0), (False, False)),
    ],
)
def test_numbers_are_surely_equal_where_neither_varies(first, second, equal):
    low, high = zip(first, second, strict=True)
    same, _ = enclose(lambda x, y: x == y, low, high, (0, 1))
    other, _ = enclose(lambda x, y: x != y, low, high, (0, 1))
    assert range_of(same) == equal
    assert range_of(other) == (not equal[1], not equal[0])


@pytest.mark.parametrize(
    ("law", "like"),
    [
        (lambda x, a, b: a * x + b, lambda x, a, b: b + x * a),
        (lambda x, a, b: a / x + b, lambda x, a, b: b + 0.0 * x),
        (lambda x, a, b: b * x, lambda x, a, b: x / b),
        (lambda x, a, b: a + x, lambda x, a, b: x + a),
    ],
)
def test_nothing_and_one_leave_no_trace_in_a_fingerprint(law, like):
    """At a = 0 and b = 1, where these are one function of x; at a = 2 and b = 3 they are not."""
    one, other = (
        fingerprint(f, (1.0, np.array([0.0, 2.0]), np.array([1.0, 3.0])),
                    (2.0, np.array([0.0, 2.0]), np.array([1.0, 3.0])), (0, EXACT, EXACT))
        for f in (law, like)
    )  # fmt: skip
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_equal_functions_have_equal_fingerprints():
    def law(x, a, b, c):
        return x * a / b + c * xp.sqrt(x)

    a, b, c = np.array([2.0, 4.0, 2.0, 2.0]), np.array([1.0, 2.0, 1.0, 1.0]), np.zeros(4)
    c[2:] = 1e-3, 2e-3
    same = fingerprint(lambda x, a, c: x * a + c * xp.sqrt(x), (1.0, a / b, c), (2.0, a / b, c),
                       (0, EXACT, EXACT))  # fmt: skip
    assert same[0] == same[1]
    assert len(set(same.tolist())) == 3
    mixed = fingerprint(law, (1.0, a, b, c), (2.0, a, b, c), (0, EXACT, EXACT, EXACT))
    assert mixed[0] != mixed[2]


def random_problem(name, convention, rng):
    """A model on some hardware of the catalogue, often with every overlap there is."""
    hardware = qs.hardware(rng.choice(["paper-reference", "h100-sxm", "gb200-nvl72"]))
    if rng.random() < 0.6:
        names = ("overlap_tp", "overlap_ep", "overlap_layout", "overlap_kv", "cp_ring_tail")
        shares = [*rng.dirichlet(np.ones(3)).tolist(), *rng.random(2).tolist()]
        hardware = hardware.replace(**dict(zip(names, shares, strict=True)))
    rules = CONVENTIONS[convention]
    if rng.random() < 0.3:
        rules = dataclasses.replace(rules, expert_balance="poisson")
    if rng.random() < 0.2:
        rules = dataclasses.replace(rules, two_batch_overlap=True)
    twins = [float(rng.uniform(1.0, 8.0))] if float(np.asarray(qs.model(name).experts)) > 1 else []
    return qs.Problem(
        name,
        hardware,
        gpus=int(rng.choice([8, 32, 64])),
        context=float(np.round(np.exp(rng.uniform(np.log(1e3), np.log(5e5))))),
        twins=twins,
        convention=rules,
        objective=str(rng.choice(["tokens_per_s_per_gpu", "tpot"])),
    )


def random_region(cells, cell, rng):
    """Every number that the accelerator has, and the context, within 0.1 to 70 %."""
    share = np.exp(rng.uniform(np.log(1e-3), np.log(0.7)))
    ends = {}
    for field in (*HARDWARE_PARAMETERS, "context"):
        own = float(np.asarray(read(cells.inputs, field))[cell])
        if own > 0 and field not in ("usd_per_hour", "watts"):
            pair = own * (1 - share * rng.random()), own * (1 + share * rng.random())
            ends[field] = pair[0], min(pair[1], bounds(field)[1])
    return region_of(cells, cell, resolve(list(ends)), ends)


def thinned(cells, rng):
    if cells.count <= MOST:
        return cells
    at = np.sort(rng.choice(cells.count, MOST, replace=False))
    return dataclasses.replace(cells, designs=take(cells.designs, at))


def units(rng, count, parameters):
    """Corners, edges and the interior of the cube."""
    found = rng.random((count, parameters))
    found[: count // 3] = np.round(found[: count // 3])
    edges = slice(count // 3, 2 * count // 3)
    found[edges] = np.where(
        rng.random(found[edges].shape) < 0.8, np.round(found[edges]), found[edges]
    )
    return found


def sampled(judge, boxes, at, rng):
    """Values of the designs at points of one box, and where they run."""
    inside = units(rng, SAMPLES, judge.parameters)
    points = boxes.low[0] + (boxes.high[0] - boxes.low[0]) * inside
    found = judge.exact(points, judge.designs(at))
    shape = len(points), len(at)
    runs = (np.asarray(found.reasons) == 0) & (np.asarray(found.broken) == 0)
    return np.broadcast_to(found.value, shape), np.broadcast_to(runs, shape)


def test_a_blend_is_bounded_closely_where_both_sides_vary_together():
    """The ends of a blend of 3x and 5x/y, which rises with x and falls with y, to a per cent."""
    law = lambda x, y: blend(3.0 * x, 5.0 * x / y, 0.2)  # noqa: E731  # a formula
    found, _ = enclose(law, (1.0, 1.0), (1.1, 1.1), (0, 1))
    least, most = law(1.0, 1.1), law(1.1, 1.0)
    low, high = range_of(found)
    assert 0.99 * least <= low <= least
    assert most <= high <= 1.01 * most
    slopes = found.slopes
    half = 0.5 * np.log(1.1)
    assert found.relative
    np.testing.assert_allclose(slopes[0], (half, half), rtol=1e-9)
    assert -half <= slopes[1][0] <= slopes[1][1] <= 0.0


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_no_design_leaves_its_bounds(name, convention):
    rng = np.random.default_rng([MODELS.index(name), convention == "paper"])
    cells = thinned(cells_of(random_problem(name, convention, rng)), rng)
    at = np.arange(cells.count)
    for cell in range(cells.cells):
        judge = Judge(cells, cell, random_region(cells, cell, rng))
        low = 0.6 * rng.random((1, judge.parameters))
        boxes = Boxes(low, low + 0.4) if cell else Boxes.whole(judge.parameters)
        found = judge.bound(boxes, at)
        values, runs = sampled(judge, boxes, at, rng)
        low, high = (np.broadcast_to(x, values.shape)[runs] for x in (found.low, found.high))
        assert (values[runs] >= low * (1 - ROUNDING)).all()
        assert (values[runs] <= high * (1 + ROUNDING)).all()
        assert not (found.runs[0] & ~runs).any()
        assert not (~found.may_run[0] & runs).any()
        # The mean value form: no point is further from the centre than the slopes say.
        reach = sum(np.fmax(np.abs(a), np.abs(b)) for a, b in found.slopes)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.abs(np.log(values / found.at_centre))
        assert (distance <= reach + 1e-9)[runs].all()
        # Leads over a champion: the difference is never less than was said.
        champion = np.array([int(np.argmax(np.where(found.runs[0], found.at_centre[0], -1.0)))])
        one = type(found)(*(_pick(x, champion) for x in found))
        least = lead(one, found, 1.0).least
        ahead = np.log(values[:, champion] / values)
        both = runs & runs[:, champion]
        assert (ahead >= np.broadcast_to(least, ahead.shape))[both].all()


def _pick(x, at):
    if isinstance(x, np.ndarray):
        return np.take_along_axis(x, at[:, None], axis=1)
    return type(x)(_pick(y, at) for y in x) if isinstance(x, list | tuple) else x


@pytest.mark.parametrize(("convention", "most"), [("physical", 1.14), ("paper", 1.26)])
def test_bounds_are_nearly_reached(convention, most):
    """Not only true but sharp, at 10 % about five numbers: what the mean value form can tell."""
    problem = qs.Problem("deepseek-v3", "paper-reference", gpus=32, convention=convention,
                         context="128k")  # fmt: skip
    cells = cells_of(problem)
    names = ("hbm_bytes", "hbm_bw", "flops_bf16", "inter_bw", "inter_latency")
    ends = {
        n: tuple(float(np.asarray(read(cells.inputs, n))[0]) * f for f in (0.9, 1.1)) for n in names
    }
    judge = Judge(cells, 0, region_of(cells, 0, resolve(names), ends))
    at = np.arange(cells.count)
    found = judge.bound(Boxes.whole(5), at)
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 5), axis=-1).reshape(-1, 5)
    judged = judge.exact(corners, judge.designs(at))
    runs = found.runs[0]
    reached = np.broadcast_to(judged.value, (32, cells.count))
    spread = np.exp(sum(np.fmax(np.abs(a), np.abs(b)) for a, b in found.slopes))
    high, low = (
        np.fmin(found.high, found.at_centre * spread),
        np.fmax(found.low, found.at_centre / spread),
    )
    assert np.median((high[0] / reached.max(axis=0))[runs]) < most
    assert np.median((reached.min(axis=0) / low[0])[runs]) < most


def arena_of(problem, share, resource=None):
    cells = cells_of(problem)
    names = [n for n in HARDWARE_PARAMETERS if n.startswith(("hbm_b", "flops_b", "intra", "inter"))]
    judges = []
    for cell in range(cells.cells):
        own = {n: float(np.asarray(read(cells.inputs, n))[cell]) for n in names}
        ends = {n: (x * (1 - share), x * (1 + share)) for n, x in own.items()}
        region = region_of(cells, cell, resolve(names), ends)
        judges.append(Judge(cells, cell, region, resource=resource))
    return Arena(judges), cells


def test_a_wrong_claim_is_refuted_by_a_point_where_it_fails():
    problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=4, context="32k", twins=5)
    arena, cells = arena_of(problem, 0.2)
    best = best_of(cells)
    wrong = arena.prove(Claim(contestant=int(np.argmin(best.score))))
    assert wrong.refuted is not None
    assert not wrong.holds
    at = wrong.refuted[None]
    tops = [table.max() for table in arena.scores(at, arena.everything())]
    assert int(np.argmax(tops)) == int(np.argmax(best.score))
    other = arena.prove(Claim(int(np.argmax(best.score)), position=int(best.second.max()) + 1))
    assert not other.holds


def test_too_few_parts_leave_a_claim_undecided():
    problem = qs.Problem("qwen3-235b-a22b", "paper-reference", gpus=32, context="128k")
    arena, cells = arena_of(problem, 0.25)
    verdict = arena.prove(Claim(position=int(best_of(cells).position[0])), most=3)
    assert verdict.refuted is None
    assert 0.0 <= verdict.proved < 1.0
    assert not verdict.holds


def test_shares_of_the_parts_of_a_region_are_their_volumes():
    boxes = Boxes(np.array([[0.0, 0.5], [0.25, 0.0]]), np.array([[1.0, 1.0], [0.5, 1.0]]))
    np.testing.assert_allclose(boxes.share, [0.5, 0.25])
    for half in boxes.halved(np.array([0, 1])):
        np.testing.assert_allclose(half.share, [0.25, 0.125])
