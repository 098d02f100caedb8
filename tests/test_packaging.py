"""What an installed copy promises, what no committed file may hold, and a jax that is right."""

import importlib.metadata
import importlib.resources
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

import qsjax

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version_is_the_same_everywhere():
    assert qsjax.__version__ == PROJECT["version"] == importlib.metadata.version("qsjax")


def test_module_prints_its_version(tmp_path):
    assert PROJECT["version"] in run(sys.executable, "-m", "qsjax", "--version", cwd=tmp_path)


def test_console_script_loads():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="qsjax")
    assert callable(script.load())


def test_import_is_light(tmp_path):
    loaded = run(sys.executable, "-c", "import qsjax, sys; print(*sys.modules)", cwd=tmp_path)
    assert not {"matplotlib", "pandas", "xarray", "panel", "bokeh"} & set(loaded.split())


def test_py_typed_is_shipped():
    assert importlib.resources.files("qsjax").joinpath("py.typed").is_file()


def test_import_leaves_the_switch_of_64_bits_alone():
    code = "import qsjax, jax.numpy as jnp; print(jnp.zeros(1).dtype)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "float32\n"


@pytest.mark.parametrize("name", ["h5netcdf", "h5py", "pyarrow"])
def test_documented_commands_need_no_extra(name):
    assert name in {Requirement(line).name for line in PROJECT["dependencies"]}


@pytest.mark.parametrize("name", ["jax", "jaxlib"])
def test_bad_jax_releases_are_excluded(name):
    requirements = map(Requirement, PROJECT["dependencies"])
    allowed = next(r.specifier for r in requirements if r.name == name)
    assert not any(version in allowed for version in ("0.8.1", "0.10.2", "0.11.0"))
    assert all(version in allowed for version in ("0.8.2", "0.10.1", "0.11.2"))


def test_pins_satisfy_the_requirements():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    extras = PROJECT["optional-dependencies"].values()
    wanted = map(Requirement, [*PROJECT["dependencies"], *(r for extra in extras for r in extra)])
    for requirement in wanted:
        pinned = [p for p in pins if p.name == requirement.name]
        assert pinned or requirement.name == "qsjax", f"no pin for {requirement}"
        for pin in pinned:
            (version,) = pin.specifier
            assert version.version in requirement.specifier, f"{pin} breaks {requirement}"


def forbidden():
    """Registry hosts and home folders, in pieces so that this file does not match itself."""
    hosts = ["py" + "pi.org", "python" + "hosted.org", "ana" + "conda.org", "file:" + "///"]
    homes = ["/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/"]
    here = [str(ROOT)] if len(ROOT.parts) > 2 else []
    return [*hosts, *homes, *here]


def test_no_committed_file_names_a_registry_or_this_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert files
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in files
        for word in forbidden()
        if word.encode() in path.read_bytes()
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("dtype", "rows"), [(np.float64, 16_385), (np.float32, 32_769)])
def test_jitted_row_products_are_right(dtype, rows):
    # jax 0.10.2 on CPU sums wrongly from the 16,385th row on (jax issue 39103).
    x = np.zeros((rows, 3), dtype)
    x[:, 0] = np.arange(rows)
    matrix = jnp.eye(3, dtype=dtype)
    norm = jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))
    np.testing.assert_array_equal(norm(x), np.sum(x**2, axis=1))
    np.testing.assert_array_equal(jax.jit(norm)(x), np.sum(x**2, axis=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_jitted_rank_8_reduction_is_right(dtype):
    # jaxlib 0.10.2 and 0.11.0 crash the process in float32 (jax issue 39257).
    shape = (2, 1, 3, 2, 2, 8, 16, 32)
    rng = np.random.default_rng(0)
    a, b = rng.random(shape).astype(dtype), rng.random((*shape[:-2], 1, 32)).astype(dtype)
    for axis in range(len(shape)):
        got = jax.jit(lambda a, b, axis=axis: jnp.sum(a * b, axis=axis))(a, b)
        np.testing.assert_allclose(got, np.sum(a * b, axis=axis), rtol=1e-5)
