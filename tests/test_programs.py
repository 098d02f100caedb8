"""Compiled programs that are kept between processes, and what stands in the way of that."""

import os
import subprocess
import sys
import warnings
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import qsjax as qs
from qsjax.cost.decode import decode_step
from qsjax.numerics import programs
from qsjax.records.specs import PHYSICAL, Partition, Records, Workload

ASK = """
import jax, warnings
import qsjax as qs
from qsjax.grid import optimum
optimum.SMALL = 0  # compiled, as for many designs
NAMES = ("jax_compilation_cache_dir", "jax_logging_level")
before = [getattr(jax.config, name) for name in NAMES]
jax.jit(lambda x: x + 1)(1.0)  # has settled that JAX keeps nothing
problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=8192)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    rows = qs.explore(problem).rows()
    again = qs.explore(problem).rows()
print(len(rows), rows == again, len({str(w.message) for w in said}))
assert before == [getattr(jax.config, name) for name in NAMES]
"""


def ask(cache):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "QSJAX_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_library_users_keep_programs_and_damaged_ones_are_compiled_again(tmp_path):
    first = ask(tmp_path)
    kept = [path for path in tmp_path.glob("jax-*/*") if path.name.endswith("-cache")]
    assert kept
    assert first[2] == "0"
    for path in kept:
        path.write_bytes(b"damaged")
    assert ask(tmp_path)[:2] == first[:2]


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(programs, "_usable", {})
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    of_tests = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", of_tests)
    compilation_cache.reset_cache()


@pytest.mark.usefixtures("fresh")
def test_a_folder_that_cannot_be_made_is_told_once(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("QSJAX_CACHE", str(file))

    def ask_twice():
        for _ in range(2):
            with programs.kept():
                pass

    with pytest.warns(UserWarning, match=r"not kept in .*file") as told:
        ask_twice()
    assert len(told) == 1


@pytest.mark.usefixtures("fresh")
def test_settings_are_those_of_the_user_again(tmp_path, monkeypatch):
    monkeypatch.setenv("QSJAX_CACHE", str(tmp_path))
    with programs.kept():
        with programs.kept():
            inside = jax.config.jax_compilation_cache_dir
        assert jax.config.jax_compilation_cache_dir == inside
    assert inside.startswith(str(tmp_path))
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setenv("QSJAX_CACHE", "off")
    with programs.kept():
        assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.usefixtures("fresh")
def test_the_oldest_programs_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "CACHE_BYTES", 100)
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(bytes(40))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    programs._prune(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"new"}


@pytest.mark.usefixtures("fresh")
def test_a_design_by_hand_changes_no_setting():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qs.decode("llama-3.1-8b", "h100-sxm", context=8192)
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.skipif(
    version("jaxlib") != "0.10.1", reason="the tests set the flag for this release alone"
)
def test_both_writers_of_loops_give_the_same_numbers():
    """Of XLA: that of a user's programs, and the one that compiles the tests' sooner.

    To an ulp or two: which products and sums become one instruction depends on the vectors.
    """
    rng = np.random.default_rng(3)
    context, batch, tp = (jnp.asarray(2.0 ** rng.integers(0, most, 500)) for most in (20, 12, 5))
    model = jax.tree.map(float, qs.model("deepseek-v3"))
    work, split = Workload(context=context, batch=batch), Partition(tp=tp, ep=8.0, pp=2.0)

    def step(bandwidth):
        hardware = qs.hardware("h100-sxm").replace(hbm_bw=bandwidth)
        return decode_step(Records(model, hardware, split, work, None), PHYSICAL)

    def law(bandwidth):
        return step(bandwidth), jax.jvp(lambda x: step(x).tpot, (bandwidth,), (bandwidth,))[1]

    lowered = jax.jit(law).lower(jnp.geomspace(1e12, 9e12, 500))
    ours, users = (
        lowered.compile({"xla_cpu_use_fusion_emitters": is_new})(jnp.geomspace(1e12, 9e12, 500))
        for is_new in (False, True)
    )
    assert np.ptp(np.asarray(ours[1])) > 0
    for x, y in zip(jax.tree.leaves(ours[0]), jax.tree.leaves(users[0]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-15)
    np.testing.assert_allclose(ours[1], users[1], rtol=1e-14)
