"""Records are trees with JAX and without it, and JAX finds them whenever it is loaded."""

import dataclasses
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest
from sweep_cases import environment

from qsjax.catalog import hardware_entry, model_entry
from qsjax.numerics import loading, trees
from qsjax.records.specs import PHYSICAL, Partition, Workload


class Pair(NamedTuple):
    first: object
    second: object


MODEL = model_entry("deepseek-v3").spec
TREES = {
    "number": 1.0,
    "nothing": None,
    "empty": (),
    "nested": [{"b": 2.0, "a": (1.0, None)}, Pair(3.0, [4.0])],
    "model": MODEL,
    "hardware": hardware_entry("h200-sxm").spec,
    "rules": PHYSICAL,
    "all": (MODEL, Pair(Partition(tp=8), Workload(context=1024.0)), {"x": np.arange(3.0)}),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_are_those_of_jax(name):
    tree = TREES[name]
    leaves, structure = trees.flatten(tree)
    theirs = jax.tree.leaves(tree)
    assert len(leaves) == len(theirs) == structure.num_leaves
    assert all(x is y for x, y in zip(leaves, theirs, strict=True))
    ours, expected = (of(lambda x: (x, 2.0), tree) for of in (trees.map, jax.tree.map))
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    assert trees.structure(ours) == trees.structure(expected)


def test_a_structure_tells_static_fields_apart_and_forgets_labels():
    other = dataclasses.replace(PHYSICAL, rounding="floor")
    assert trees.structure(other) != trees.structure(PHYSICAL)
    named = dataclasses.replace(MODEL, label="mine")
    assert trees.structure(named) == trees.structure(MODEL)
    assert trees.map(lambda x: x, named).label == ""


def test_trees_of_two_structures_have_no_leaves_in_common():
    with pytest.raises(ValueError, match="differ"):
        trees.map(max, (1.0, 2.0), [1.0, 2.0])


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.split()


def test_who_imports_a_record_has_it_in_jax():
    assert run(
        "from qsjax.records.specs import Partition\n"
        "import jax\n"
        "print(len(jax.tree.leaves(Partition(tp=2))) > 1)"
    ) == ["True"]


def test_what_waited_for_jax_is_there_once_it_is_loaded():
    """Records, 64-bit numbers around what runs, and none of them after it."""
    assert run(
        "import sys\n"
        "from qsjax.numerics import loading\n"
        "loading.wait()\n"
        "from qsjax.numerics.loading import in_float64\n"
        "from qsjax.records.specs import Partition\n"
        "print('jax' in sys.modules)\n"
        "@in_float64\n"
        "def inner():\n"
        "    from qsjax.numerics.jax import jax, jnp\n"
        "    print(jnp.ones(()).dtype, len(jax.tree.leaves(Partition(tp=2))) > 1)\n"
        "in_float64(inner)()\n"
        "import jax.numpy as jnp\n"
        "print(jnp.ones(()).dtype)\n"
    ) == ["False", "float64", "True", "float32"]


def test_a_number_of_numpy_is_no_tracer():
    assert not loading.is_tracer(np.ones(2))
    seen = []
    jax.jit(lambda x: seen.append(loading.is_tracer(x)) or x)(1.0)
    assert seen == [True]
