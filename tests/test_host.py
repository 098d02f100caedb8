"""Laws run by NumPy: equal to compiled code on any grid, and nothing is compiled."""

import dataclasses
import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from designs import random_designs, records
from test_oracle import CASES, DESIGNS, disagreements, oracle_terms
from tolerances import EXACT

from qsjax.cost.decode import decode_step
from qsjax.cost.prefill import prefill_step
from qsjax.numerics import jaxpr, numpy_backend
from qsjax.numerics.numpy_backend import Hoisted, on_host
from qsjax.records.specs import PHYSICAL

step_on_host = on_host(decode_step)
# Zeros of both signs, halves, integers, and what is no number.
VALUES = np.array([-np.inf, -2.5, -2.0, -0.5, -0.0, 0.0, 0.5, 1.5, 2.0, 3.7, np.inf, np.nan])
UNARY = {
    **{name: getattr(jnp, name) for name in ("floor", "ceil", "sqrt", "square", "round", "sign")},
    **{name: getattr(jnp, name) for name in ("exp", "expm1", "log", "log1p", "abs", "negative")},
    "isfinite": jnp.isfinite,
    "cube": lambda x: x**3,
    "cast": lambda x: jnp.where(jnp.isnan(x), 0.0, jnp.clip(x, -9, 9)).astype(jnp.int32),
}
BINARY = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "pow")},
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(jnp, name) for name in ("maximum", "minimum", "mod")},
    "rem": jax.lax.rem,
    "where": lambda x, y: jnp.where((x > y) & (x > 0) | ~(y < 1), x, y),
}


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


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number_are_those_of_jax(name):
    equal(on_host(UNARY[name])(VALUES), jax.jit(UNARY[name])(VALUES))


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers_are_those_of_jax(name):
    x, y = VALUES[:, None], VALUES[None, :]
    dense = np.broadcast_arrays(x, y)
    equal(on_host(BINARY[name])(x, y), jax.jit(BINARY[name])(*dense))


def test_every_operation_of_the_tables_is_tested():
    seen = set()
    for functions, count in ((UNARY, 1), (BINARY, 2)):
        for function in functions.values():
            seen |= names_in(jax.make_jaxpr(function)(*[0.0] * count).jaxpr)
    assert set(numpy_backend._PLAIN) - seen <= {"add_any"}  # sums of derivatives, in test_economics


def names_in(program):
    found = set()
    for eqn in program.eqns:
        inner = eqn.params.get(jaxpr._NESTED.get(eqn.primitive.name, ""))
        found |= names_in(inner.jaxpr) if inner else {eqn.primitive.name}
    return found


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
    monkeypatch.setitem(numpy_backend._PLAIN, "exp", lambda x: calls.append(x) or np.exp(x))

    def law(x):
        jnp.exp(x)
        return jnp.exp(2.0 * x) + jnp.exp(2.0 * x)

    assert on_host(law)(0.0) == 2.0
    assert len(calls) == 1  # nor what is known already


def test_slots_are_freed_after_their_last_reader():
    found = jaxpr.record(lambda x: (x + 1.0) * (x + 2.0), jax.tree.structure((0.0,)), [float])
    freed = [slot for step in found.steps for slot in step.frees]
    written = [step.writes for step in found.steps if step.writes not in found.results]
    assert sorted(freed) == sorted([0, *found.constants, *written])


def test_an_unknown_operation_is_compiled_once():
    def law(x, *, power):
        return jnp.sin(x) ** power

    run = on_host(law)
    x = np.linspace(0.0, 1.0, 5)
    np.testing.assert_allclose(run(x, power=2.0), np.sin(x) ** 2, rtol=EXACT)
    compiled = numpy_backend._compiled(law, (("power", 2.0),))
    assert compiled._cache_size() == 1
    run(2.0 * x, power=2.0)
    assert compiled._cache_size() == 1


def test_the_laws_need_no_compiler():
    """No release of jax may silently send the laws back to the compiler."""
    designs = random_designs(3, PHYSICAL, given=True, n=1)
    dtypes = {}
    arguments = records(designs, PHYSICAL, dtypes)
    assert numpy_backend._player(decode_step, (), jax.tree.structure(arguments)) is not None
    prompt = (*arguments, 100.0)
    assert numpy_backend._player(prefill_step, (), jax.tree.structure(prompt)) is not None
    assert dataclasses.is_dataclass(step_on_host(*arguments))


def law_of_a_grid(x, y, z, *, power):
    return jnp.exp(x) * y + z**power, x - y, 3.0 * z, jnp.ones(()) * 2.0


@pytest.mark.parametrize("more", [lambda x: x, jnp.sin], ids=["played", "compiled"])
def test_hoisted_terms_are_those_of_the_whole_at_each_place(more):
    def law(x, y, z, *, power):
        return jax.tree.map(more, law_of_a_grid(x, y, z, power=power))

    x, y, z = np.arange(3.0)[:, None], np.arange(1.0, 5.0)[None, :], np.array([2.0, 5.0, 7.0])
    index = np.array([2, 0, 2]), np.array([3, 1, 0])
    found = Hoisted(law, x, y, power=2)(index, z)
    expected = law(x[index[0], 0], y[0, index[1]], z, power=2)
    for ours, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.broadcast_to(ours, 3), np.broadcast_to(whole, 3), rtol=EXACT)


def test_what_the_changing_number_does_not_reach_is_computed_once(monkeypatch):
    calls = []
    monkeypatch.setitem(numpy_backend._PLAIN, "exp", lambda x: calls.append(x) or np.exp(x))
    law = Hoisted(partial(law_of_a_grid), np.arange(3.0)[:, None], np.ones((1, 4)), power=3)
    for value in (1.0, 2.0):
        law((np.array([0]), np.array([1])), np.array([value]))
    assert [x.shape for x in calls] == [(3, 1)]
