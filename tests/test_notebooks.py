"""The notebooks as they are committed: built from their sources, with outputs, on no one's machine.

`make notebooks` executes them; here is what a reader who only browses relies on.
"""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
BUILD = runpy.run_path(str(FOLDER / "build.py"))
SOURCES = sorted((FOLDER / "sources").glob("*.md"))
STORIES = 12
PRIVATE = re.compile(r"/(?:tmp|home|root|work|Users|usr|var|opt)/\S*|[A-Z]:\\\\")


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


@pytest.fixture
def book(source):
    return nbformat.read(FOLDER / f"{source.stem}.ipynb", as_version=4)


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_there_is_one_notebook_for_every_story():
    numbers = sorted(int(path.stem.partition("-")[0]) for path in SOURCES)
    assert numbers == list(range(1, STORIES + 1))
    assert {p.stem for p in SOURCES} == {p.stem for p in FOLDER.glob("*.ipynb")}


def test_it_is_what_its_source_says(source, book):
    fresh = BUILD["notebook"](source.read_text(encoding="utf-8"))
    assert [(c.cell_type, c.source, c.id) for c in book.cells] == [
        (c.cell_type, c.source, c.id) for c in fresh.cells
    ], f"run: python notebooks/build.py {source.stem}"


def test_it_is_valid_and_was_run_from_top_to_bottom(book):
    nbformat.validate(book)
    assert [cell.execution_count for cell in code(book)] == list(range(1, len(code(book)) + 1))


def test_it_shows_pictures_and_no_error(book):
    outputs = [output for cell in code(book) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]


def test_its_outputs_name_no_path_of_a_machine(book):
    for cell in code(book):
        for output in cell.outputs:
            texts = [output.get("text", ""), *map(str, output.get("data", {}).values())]
            texts = [text for text in texts if not text.startswith("iVBOR")]
            assert not PRIVATE.search("\n".join(texts))


def test_it_ends_in_assertions_and_defines_no_model(book):
    assert "assert " in code(book)[-1].source
    for cell in code(book):
        assert "decode_step" not in cell.source
        assert "ModelSpec(" not in cell.source


def test_a_private_path_would_be_seen():
    assert PRIVATE.search("in /" + "home/someone/project/file.py")
    assert not PRIVATE.search("tokens/s/GPU and n/a")
