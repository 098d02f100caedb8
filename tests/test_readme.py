"""Every command and every Python block of README.md, executed as written."""

import pytest
from snippets import ROOT, blocks, broken_links, commands, files, process, python, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Started from a test these would start this test again, or install an environment; that the
# target exists is what can be said here, and .ci/run runs them.
SETUP = ("make ", "git clone", "cd ", "source ", "python -m venv", "pip install", "docker ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One working directory for all commands, with the files that the README shows."""
    path = tmp_path_factory.mktemp("readme")
    for name, text in files(README).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands(README) if not c.startswith(SETUP)])
def test_command(command, folder):
    ended = run(command, folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.strip()


@pytest.mark.parametrize(
    "target", [c.split()[1] for c in commands(README) if c.startswith("make ")]
)
def test_make_target(target):
    ended = process(["make", "--dry-run", "--always-make", target], ROOT)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("block", range(len(blocks(README, "python"))))
def test_python_block(block, folder):
    ended = python(blocks(README, "python")[block].text, folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert not ended.stderr


def test_there_is_something_to_run():
    assert [c for c in commands(README) if c.startswith("qsjax ")]
    assert blocks(README, "python")


def test_links_and_pictures_are_there():
    assert broken_links(ROOT / "README.md") == []
