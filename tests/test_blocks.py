"""The two-pass reduction of a block against a plain search of every cell, on scores made for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import EXACT

from qsjax.cost.feasibility import REASONS
from qsjax.grid.scoring import Scored, lowest, tolerance
from qsjax.grid.staging import cut_of, lanes_of, part_of, tiles_of
from qsjax.grid.tiles import choose, count_tiles, reduce_tiles, reduce_whole

LOWEST = lowest("float64")
# Kept axes and designs: one row, several rows with the lanes in the middle, few lanes, no tiles.
SHAPES = [(70, 4096), (2, 65, 3, 2048), (2, 2, 512), (5, 10007), (4096,)]


def made_up(shape, dtype="float64"):
    """Scores with many near ties and many infeasible, GPUs, and where the weights fit."""
    rng = np.random.default_rng(7)
    score = rng.choice([1.0, 2.0, 3.0], shape, p=[0.9, 0.0999, 0.0001])
    score *= 1.0 + tolerance(dtype) * rng.choice([0.0, 0.3, -0.3, 40.0], shape)
    level = rng.choice([0, 1, 2], shape, p=[0.7, 0.15, 0.15])
    score = np.choose(level, [score, -np.inf, lowest(dtype)]).astype(dtype)
    # A kept cell without any design, one with a single one, one where all are the same.
    flat = score.reshape(-1, shape[-1])
    if len(flat) > 3:
        flat[0], flat[1] = lowest(dtype), -np.inf
        flat[1, -1] = 5.0
        flat[2] = 1.0
    ahead = (1,) * (len(shape) - 1)
    gpus = rng.choice([8.0, 16.0, 64.0], (*ahead, shape[-1])).astype(dtype)
    fits = rng.random((*ahead, shape[-1])) < 0.8
    return score, gpus, fits


def scorer(with_gpus):
    def score(value, gpus, fits):
        broken = {
            "weights do not fit": ~fits,
            "no sequence fits": value < 2.0,
            "batch does not fit": value > 2.5,
        }
        return Scored(value, gpus if with_gpus else None, value > lowest(value.dtype), broken)

    return score


def plain(score, gpus, near):
    """The best of one kept cell, design by design."""
    left = [k for k in range(len(score)) if score[k] > LOWEST]
    if not left:
        return 0, -np.inf
    best = max(score[k] for k in left)
    tied = [k for k in left if score[k] >= best - near * abs(best)]
    chosen = min(tied, key=lambda k: (gpus[k], k))
    return chosen, score[chosen]


@pytest.mark.parametrize("with_gpus", [True, False], ids=["any", "prescribed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_choices_are_those_of_a_plain_search(shape, with_gpus):
    score, gpus, fits = made_up(shape)
    given = (score, gpus, fits)
    reduce = jax.jit(lambda *x: reduce_tiles(scorer(with_gpus), x, shape, extra=lambda s: s.score))
    found, seen = reduce(*given)
    assert np.sort(np.asarray(seen).reshape(-1))[-1] == score.max()
    count = np.broadcast_to(gpus, shape) if with_gpus else np.zeros(shape)
    cells = [np.reshape(x, (-1, shape[-1])) for x in (score, count)]
    wanted = [plain(s, g, tolerance("float64")) for s, g in zip(*cells, strict=True)]
    assert found.best.position.shape == shape[:-1]
    position, value = zip(*wanted, strict=True)
    np.testing.assert_array_equal(np.reshape(found.best.position, -1), position)
    np.testing.assert_allclose(np.reshape(found.best.score, -1), value, rtol=EXACT)
    np.testing.assert_array_equal(found.feasible, (score > LOWEST).sum(-1))
    reasons = dict(zip(REASONS, found.reasons, strict=True))
    unfit = np.broadcast_to(~fits, shape).sum(-1)
    np.testing.assert_array_equal(reasons["weights do not fit"], unfit)
    np.testing.assert_array_equal(reasons["no sequence fits"], (score < 2.0).sum(-1))
    np.testing.assert_array_equal(reasons["batch does not fit"], (score > 2.5).sum(-1))
    np.testing.assert_array_equal(reasons["wrong GPU count"], 0)  # no such flag
    counted = jax.jit(lambda *x: count_tiles(lambda s, g, f: (s > 0) & f, x, shape))(*given)
    assert int(counted) == ((score > 0) & fits).sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_and_the_whole_choose_alike(dtype):
    """float32 has a wider tolerance: two designs that round apart still count as equal."""
    shape = (66, 2048)
    given = made_up(shape, dtype)
    both = []
    for reduce in (reduce_tiles, reduce_whole):
        program = jax.jit(lambda *x, reduce=reduce: reduce(scorer(True), x, shape)[0])
        both.append(program(*given))
    assert both[0].best.score.dtype == dtype
    jax.tree.map(np.testing.assert_array_equal, *both)
    assert (np.asarray(both[0].best.position) != 0).sum() > 50


def test_the_way_of_a_gpu_gives_the_same(monkeypatch):
    """There all tiles are computed at once; here that branch is taken on the CPU."""
    shape = (66, 2048)
    given = made_up(shape)
    assert cut_of(shape).tiles > 1

    def reduced():
        return jax.jit(lambda *x: reduce_tiles(scorer(True), x, shape)[0])(*given)

    wanted = reduced()
    taken = []

    def take_default(*arguments, default, **others):
        taken.append(set(others))
        return default(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", take_default)
    jax.tree.map(np.testing.assert_array_equal, reduced(), wanted)
    assert taken == [{"cpu"}]


def test_only_the_program_for_a_cpu_loops_over_tiles():
    """Programs for accelerators are made without one at hand, up to what their compilers take."""
    shape = (66, 2048)
    reduce = jax.jit(lambda *x: reduce_tiles(scorer(True), x, shape)[0])
    traced = reduce.trace(*made_up(shape))

    def seen(platform):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return text.count("stablehlo.while"), text.count("stablehlo.optimization_barrier")

    loops, barriers = seen("cpu")
    assert barriers == 0
    for platform in ("cuda", "rocm", "tpu"):
        assert seen(platform) == (loops - 1, 1)


def test_a_choice_survives_rounding_between_the_passes():
    """A tile whose second scores are lower than its first ones still gives its best design."""
    score = np.random.default_rng(3).random((4, 1, 32, 8))
    highest = score.max(axis=2) * (1.0 + 1e-6)

    def lower(tile, row):
        own = jnp.asarray(score)[tile, row]
        return Scored(own, None, own > -jnp.inf, {})

    found = jax.jit(lambda h: choose(lower, h))(highest)
    designs = score.transpose(1, 3, 0, 2).reshape(8, -1)
    np.testing.assert_array_equal(found.position[0], designs.argmax(axis=1))


def test_designs_are_cut_into_equal_tiles_and_parts():
    assert [tiles_of(n) for n in (1, 64, 66, 784, 33614)] == [1, 1, 2, 2, 2]
    assert [tiles_of(n, 256) for n in (64, 784, 33614)] == [1, 2, 98]
    assert tiles_of(2**20, 2**20) == 2**20 // 64
    assert tiles_of(10007, 256) == 1  # a prime: one piece
    parts = [part_of(n) for n in (31, 64, 66, 343, 3528, 201, 10007)]
    assert parts == [31, 64, 33, 49, 63, 67, 10007]
    # Sections that fill vectors of eight, or the whole axis.
    assert [lanes_of(n) for n in (5, 96, 512, 1000, 10082)] == [5, 96, 128, 40, 10082]
    for shape in SHAPES:
        cut = cut_of(shape)
        assert cut.tiles * cut.parts * cut.width == shape[-1]
        assert np.prod(cut.rows) * cut.lanes == np.prod(shape[:-1])
        assert all(cut.lanes >= length for length in cut.rows)
