"""Laws run by NumPy: equal to compiled code on any grid, and nothing is compiled."""

import gc
import operator
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from designs import random_designs, records
from test_oracle import CASES, DESIGNS, disagreements, oracle_terms
from tolerances import EXACT

from qsjax.cost.decode import decode_step
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.numerics import jaxpr, numpy_backend, tape, trees
from qsjax.numerics.jaxpr import on_host_by_jax
from qsjax.numerics.namespace import xp
from qsjax.numerics.numpy_backend import Hoisted, on_host
from qsjax.records.specs import PHYSICAL

step_on_host = on_host(decode_step)
# Zeros of both signs, halves, integers, and what is no number.
VALUES = np.array([-np.inf, -2.5, -2.0, -0.5, -0.0, 0.0, 0.5, 1.5, 2.0, 3.7, np.inf, np.nan])
UNARY = {
    **{name: getattr(xp, name) for name in ("floor", "ceil", "sqrt", "square", "round", "sign")},
    **{name: getattr(xp, name) for name in ("exp", "expm1", "log", "log1p", "log2", "log10")},
    **{name: getattr(xp, name) for name in ("abs", "negative", "isfinite")},
    "cube": lambda x: x**3,
    "clipped": lambda x: xp.clip(xp.asarray(x), -2.0, 2.0),
    "cast": lambda x: xp.where(xp.isfinite(x), xp.clip(x, -9, 9), 0.0).astype(xp.int32),
    "flag": lambda x: 2.0 * (x > 0).astype(xp.float64),
    "bits": lambda x: xp.where(x > 0, xp.int32(4), xp.int32(0)) + xp.where(x < 2, xp.int32(1), 0),
}
BINARY = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "pow")},
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(xp, name) for name in ("maximum", "minimum", "fmod")},
    "where": lambda x, y: xp.where((x > y) & (x > 0) | ~(y < 1), x, y),
}
# A law is recorded by symbols; what JAX differentiates, by JAX.
RECORDED = {"symbols": on_host, "jax": on_host_by_jax}


def equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, compiled in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(ours).dtype == compiled.dtype
        full = np.broadcast_to(ours, compiled.shape)
        np.testing.assert_allclose(full, compiled, rtol=EXACT)


@pytest.mark.parametrize(("seed", "convention", "dtypes", "given"), CASES)
def test_every_term_agrees_with_the_oracle(seed, convention, dtypes, given):
    designs = random_designs(seed, convention, given, DESIGNS)
    step = step_on_host(*records(designs, convention, dtypes))
    assert not disagreements(step, oracle_terms(designs, convention, dtypes))


@pytest.mark.parametrize("by", RECORDED)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number_are_those_of_jax(name, by):
    equal(RECORDED[by](UNARY[name])(VALUES), jax.jit(UNARY[name])(VALUES))


@pytest.mark.parametrize("by", RECORDED)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers_are_those_of_jax(name, by):
    x, y = VALUES[:, None], VALUES[None, :]
    dense = np.broadcast_arrays(x, y)
    equal(RECORDED[by](BINARY[name])(x, y), jax.jit(BINARY[name])(*dense))


def test_every_operation_of_a_tape_is_tested():
    seen = set()
    for functions, count in ((UNARY, 1), (BINARY, 2)):
        for function in functions.values():
            found = tape.record(function, trees.structure((0.0,) * count))
            seen |= {step.name for step in found.steps}
    assert seen == {*tape.FUNCTIONS, "cast", "whole_power"}


@pytest.mark.parametrize("use", [bool, float, int, np.asarray, list, np.sin, jnp.sin, xp.sort])
def test_a_law_that_uses_a_value_is_no_list_of_operations(use):
    with pytest.raises(TypeError):
        on_host(use)(1.0)


def test_a_law_inside_a_law_is_played_by_itself():
    """A table that a law looks up is computed while the law is recorded."""

    def law(x):
        return x + on_host(lambda y: xp.exp(y) * 2.0)(0.0)

    assert on_host(law)(1.0) == 3.0


def test_a_term_keeps_to_the_axes_that_it_depends_on():
    def law(x, y):
        return x * 2.0, x + y

    x, y = np.arange(3.0)[:, None], np.arange(4.0)[None, :]
    sizes = [part.shape for part in on_host(law)(x, y)]
    assert sizes == [(3, 1), (3, 4)]


def test_one_trace_serves_every_shape():
    def law(x, y):
        return x * y

    run = on_host(law)
    before = numpy_backend._player.cache_info().misses
    for shape in ((), (3,), (2, 1, 5)):
        np.testing.assert_array_equal(run(np.full(shape, 3.0), 2.0), np.full(shape, 6.0))
    assert numpy_backend._player.cache_info().misses == before + 1


def test_options_choose_the_program():
    def law(x, *, sign):
        return x if sign == "plus" else -x

    run = on_host(law)
    assert (run(2.0, sign="plus"), run(2.0, sign="minus")) == (2.0, -2.0)


def test_what_no_result_needs_is_not_computed(monkeypatch):
    calls = []
    monkeypatch.setitem(tape.FUNCTIONS, "exp", lambda x: calls.append(x) or np.exp(x))

    def law(x):
        xp.exp(x)
        return xp.exp(2.0 * x) + xp.exp(2.0 * x)

    assert on_host(law)(0.0) == 2.0
    assert len(calls) == 1  # nor what is known already


def test_slots_are_freed_after_their_last_reader():
    found = tape.record(lambda x: (x + 1.0) * (x + 2.0), trees.structure((0.0,)))
    freed = [slot for step in found.steps for slot in step.frees]
    written = [step.writes for step in found.steps if step.writes not in found.results]
    assert sorted(freed) == sorted([0, *found.constants, *written])


def test_what_no_tape_has_is_compiled_for_every_element():
    """A gradient is that of one number; the arguments broadcast."""

    def law(x, y, *, power):
        return jax.value_and_grad(lambda x: jnp.sin(x) ** power * y)(x)

    x, y = np.linspace(0.0, 1.0, 5)[:, None], np.array([1.0, 3.0])
    value, slope = on_host_by_jax(law)(x, y, power=2)
    np.testing.assert_allclose(value, np.sin(x) ** 2 * y, rtol=EXACT)
    np.testing.assert_allclose(slope, np.sin(2.0 * x) * y, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("law", "more"), [(decode_step, ()), (prefill_step, (Prompts(100.0),))])
def test_jax_traces_the_laws_to_operations_of_a_tape(law, more):
    """No release of jax may silently send derivatives of the laws back to the compiler."""
    arguments = *records(random_designs(3, PHYSICAL, given=True, n=1), PHYSICAL, {}), *more
    by_jax, by_symbols = (
        numpy_backend._player(recorder, law, (), trees.structure(arguments)).tape
        for recorder in (jaxpr.record, tape.record)
    )
    assert {step.name for step in by_jax.steps} >= {step.name for step in by_symbols.steps}
    found = [trees.leaves(host(law)(*arguments)) for host in (on_host, on_host_by_jax)]
    np.testing.assert_allclose(*map(np.hstack, found), rtol=EXACT)


def law_of_a_grid(x, y, z, *, power):
    return xp.exp(x) * y + z**power, x - y, 3.0 * z, xp.ones(()) * 2.0


def test_hoisted_terms_are_those_of_the_whole_at_each_place():
    x, y, z = np.arange(3.0)[:, None], np.arange(1.0, 5.0)[None, :], np.array([2.0, 5.0, 7.0])
    index = np.array([2, 0, 2]), np.array([3, 1, 0])
    found = Hoisted(law_of_a_grid, (x, y), power=2)(z, index)
    expected = law_of_a_grid(x[index[0], 0], y[0, index[1]], z, power=2)
    for ours, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.broadcast_to(ours, 3), np.broadcast_to(whole, 3), rtol=EXACT)


@pytest.mark.parametrize("recorder", [jaxpr.record, tape.record])
def test_of_a_whole_grid_the_last_argument_may_be_a_tree(recorder):
    def law(x, of):
        return xp.exp(x) * of["a"] + of["b"][0]

    x, last = np.arange(3.0)[:, None], {"a": np.array([1.0, 4.0]), "b": (2.0,)}
    hoisted = Hoisted(law, (x,), last, recorder)
    for factor in (1.0, 3.0):
        found = hoisted({"a": factor * last["a"], "b": (5.0,)})
        np.testing.assert_allclose(found, np.exp(x) * factor * last["a"] + 5.0, rtol=EXACT)


def test_what_the_changing_number_does_not_reach_is_computed_once(monkeypatch):
    calls = []
    monkeypatch.setitem(tape.FUNCTIONS, "exp", lambda x: calls.append(x) or np.exp(x))
    law = Hoisted(partial(law_of_a_grid), (np.arange(3.0)[:, None], np.ones((1, 4))), power=3)
    for value in (1.0, 2.0):
        law(np.array([value]), (np.array([0]), np.array([1])))
    assert [x.shape for x in calls] == [(3, 1)]


def test_results_are_freed_without_a_search_for_cycles():
    """Trees that are put together held all of their arrays until Python looked for cycles."""
    gc.disable()
    try:
        found = on_host(lambda x: {"twice": (2.0 * x, x)})(np.ones(9))
        array = weakref.ref(found["twice"][0])
        del found
        assert array() is None
    finally:
        gc.enable()
