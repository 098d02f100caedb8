"""The documents: links resolve, formulas typeset, examples run, contributors' steps work."""

import ast
import json
import re
import runpy
from pathlib import Path

import pytest
from snippets import ROOT, blocks, broken_links, commands, files, python, run

import qsjax
from qsjax import catalog
from qsjax.catalog.families import FAMILIES, REFUSED
from qsjax.engines.flags import sizes_of
from qsjax.engines.held import NAMES
from qsjax.engines.rules import ENGINES, flags_of, load_flags
from qsjax.records.precision import SIZES

DOCS = ROOT / "docs"
# What a build of the site writes.
WRITTEN = {
    DOCS / name.rstrip("/") for name in (DOCS / ".gitignore").read_text(encoding="utf-8").split()
}
PAGES = sorted(path for path in DOCS.rglob("*.md") if not WRITTEN & {path, *path.parents})
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_links_resolve(path):
    broken = {(path.parent / link).resolve() for link in broken_links(path)}
    assert broken - WRITTEN == set()


def test_a_broken_link_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](missing.md) [b](page.md#part) [c](https://example.org/x)")
    assert broken_links(page) == ["missing.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_python_blocks_are_python(path):
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        ast.parse(block.text)


RUN = {
    name: (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("start", "guides/eight-tasks", "guides/figures", "guides/report")
}
LINES = {
    name: [c for c in commands(page) if c.startswith("qsjax ") and "results/ph" not in c]
    for name, page in RUN.items()
}
SCRIPTS = {
    name: "\n".join(block.text for block in blocks(page, "python")) for name, page in RUN.items()
}


def test_every_page_has_something_to_run():
    assert all(LINES[name] or SCRIPTS[name] for name in RUN)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUN if LINES[name]])
def test_commands_run(name, tmp_path):
    for command in LINES[name]:
        done = run(command, tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_scripts_run(tmp_path):
    """Each with names of its own, in one process of a user's: importing JAX takes the longest."""
    each = f"for name, code in {SCRIPTS!r}.items(): exec(compile(code, name, 'exec'), {{}})"
    done = python(each, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


def test_each_of_the_eight_tasks_takes_at_most_five_lines():
    page = (DOCS / "guides/eight-tasks.md").read_text(encoding="utf-8")
    _, *tasks = page.split("\n## ")
    for task in tasks:
        (block,) = blocks(task, "python")
        assert 1 <= len(list(filter(str.strip, block.text.splitlines()))) <= 5, task
    assert len(tasks) == 8


def test_the_page_of_what_is_read_names_every_entry():
    """By the tables themselves; each build of the site writes it."""
    page = runpy.run_path(str(DOCS / "supported.py"))["page"]()
    for family in FAMILIES.values():
        assert all(f"`{name}`" in page for name in family.types)
        assert all(
            f"| {part.__name__.replace('_', ' ')} | {part.__doc__[:20]}" in page
            for part in family.parts
        )
    assert all(f"| `{name}` | `{like}` | {why} |" in page for name, (like, why) in REFUSED.items())
    flags = load_flags()
    for names in (flags["dtype_of_weights"], flags["loaders"], sizes_of("cache")):
        assert all(f"| `{name}` |" in page for name in names)
    for kind in ("cache", "state"):
        assert not flags[f"bytes_of_{kind}"].keys() & SIZES.keys()  # said once
    for engine in ENGINES:
        section = page.split(f"### {NAMES[engine]}\n")[1].split("\n#")[0]
        read, ignored, unread = re.split(r"Without effect: |Not read: ", section)
        parts = {"read": read, "none": ignored, "unread": unread}
        for spelled, flag in flags_of(engine).items():
            name = spelled if flag.effect == "read" else flag.name
            assert f"`{name}`" in parts[flag.effect], name
    assert "supported" in (DOCS / "index.md").read_text().split()
    assert "supported.md" in (DOCS / ".gitignore").read_text().split()


def test_the_page_of_public_names_has_each_with_an_example():
    groups = runpy.run_path(str(DOCS / "public.py"))["GROUPS"]
    named = [name for _, _, names in groups for name in names]
    assert sorted(named) == sorted(qsjax.__all__)
    assert all(name in code for _, _, names in groups for name, code in names.items())
    assert {"public"} <= set((DOCS / "index.md").read_text().split())


class TestContributing:
    def test_every_file_that_it_names_is_there(self):
        named = re.findall(r"`((?:[\w.-]+/)+[\w.*-]+)`", CONTRIBUTING)
        named = [
            name
            for name in named
            if "NAME" not in name and not name.startswith(("results/", "build/"))
        ]
        assert len(named) > 15
        assert [name for name in named if not list(ROOT.glob(name))] == []

    def test_its_model_can_be_added(self, tmp_path):
        path = tmp_path / "example.toml"
        path.write_text(files(CONTRIBUTING)["models/example.toml"])
        entry = catalog.model_entry(str(path))
        for count, published in (
            (qsjax.total_params(entry.spec), entry.published_total),
            (qsjax.active_params(entry.spec), entry.published_active),
        ):
            assert abs(float(count) / published - 1) < 0.01

    def test_its_accelerator_can_be_added(self, tmp_path):
        path = tmp_path / "example.toml"
        path.write_text(files(CONTRIBUTING)["hardware/example.toml"])
        assert float(catalog.hardware(str(path)).hbm_bw) == 4e12

    def test_its_notebook_steps_make_a_notebook(self):
        build = runpy.run_path(str(ROOT / "notebooks" / "build.py"))
        book = build["notebook"]("# Story\n\n```python\nx = 1\n```\n\nText.\n")
        assert [cell.cell_type for cell in book.cells] == ["markdown", "code", "markdown"]

    def test_the_picture_shows_every_module(self):
        pictures = runpy.run_path(str(DOCS / "pictures.py"))
        layers = runpy.run_path(str(ROOT / "tests" / "test_layering.py"))["LAYERS"]
        shown = [name for members in pictures["bands"]().values() for name in members]
        assert sorted(shown) == sorted(n for row in layers for n in row if "." not in n)
        assert all(pictures["bands"]().values())


QUOTED = runpy.run_path(str(DOCS / "quoted.py"))


def test_what_is_not_modelled_is_one_table():
    """`python docs/quoted.py limits` writes it into README.md and the page of limits."""
    table = QUOTED["limits"]()
    assert table.count("\n") > 8
    for path in (ROOT / "README.md", DOCS / "limits.md"):
        assert QUOTED["quoted"](path.read_text(encoding="utf-8"))["limits"] == table, path


def test_the_leads_of_the_readme_are_those_of_today():
    """`python docs/quoted.py interactivity` writes them beside the paper's."""
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert QUOTED["quoted"](page)["interactivity"] == QUOTED["interactivity"]()


def test_quoted_parts_are_written_and_found_again():
    page = (
        "a\n<!-- quoted: limits -->\nold\n<!-- end -->\nb\n<!-- output 2: qsjax x -->\n<!-- end -->"
    )
    new = QUOTED["written"](page, ["limits"])
    assert QUOTED["quoted"](new) == {"limits": QUOTED["limits"](), "qsjax x": ""}
    assert new.startswith("a\n<!-- quoted")
    assert "\nold\n" not in new


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_every_quoted_part_has_been_written(path):
    """`python docs/quoted.py` writes them all."""
    for name, text in QUOTED["quoted"](path.read_text(encoding="utf-8")).items():
        assert text.strip(), name


def test_the_readme_takes_under_two_screens():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110


def test_the_page_of_fields_says_what_the_fields_do():
    """`python docs/fields.py` writes it."""
    written = runpy.run_path(str(DOCS / "fields.py"))["page"]()
    assert (DOCS / "fields.md").read_text("utf-8") == written


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_formulas_become_mathml(path):
    convert = runpy.run_path(str(DOCS / "conf.py"))["mathml"]
    prose = re.sub(
        r"```.*?```|`[^`\n]*`", " code ", path.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    formulas = re.findall(r"\$\$(.+?)\$\$", prose, re.DOTALL)
    formulas += re.findall(
        r"(?<!\$)\$([^$]+)\$(?!\$)", re.sub(r"\$\$.+?\$\$", "", prose, flags=re.DOTALL)
    )
    for formula in formulas:
        assert "\\" not in convert(formula, "inline"), formula


def test_a_page_that_loads_from_a_server_or_lacks_fails_the_build(tmp_path):
    """`make docs` builds the site, warnings as errors, and looks at what it has written."""
    flaws = runpy.run_path(str(DOCS / "conf.py"))["flaws"]
    page = tmp_path / "concepts" / "cost-model.html"
    page.parent.mkdir()
    page.write_text('<math> <img src="a.svg"> <a href="https://example.org/x">')
    told = flaws(tmp_path)
    assert not [line for line in told if "cost-model" in line]
    assert {"guides/sweeps.html is missing", "notebooks/2-paper.html is missing"} <= set(told)
    page.write_text('<script async src="https://example.org/x.js"> <link href="http://a.org/b">')
    assert [line for line in flaws(tmp_path) if "cost-model" in line] == [
        "concepts/cost-model.html loads https://example.org/x.js",
        "concepts/cost-model.html loads http://a.org/b",
        "concepts/cost-model.html has no formula",
    ]


def test_notebook_metadata_names_the_kernel_that_ci_has():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert json.loads(Path(path).read_text())["metadata"]["kernelspec"]["name"] == "python3"
