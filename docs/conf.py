"""Sphinx settings: `make docs` builds the site into build/docs, without any network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latex2mathml.converter import convert

if TYPE_CHECKING:  # the tests look at formulas and pages without Sphinx
    from docutils import nodes
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
NOTEBOOKS = HERE / "notebooks"  # copies, made at build time and ignored by git

project = "qsjax"
author = "the qsjax developers"
release = version = installed("qsjax")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.apidoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "assets", "api/modules.rst"]

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
nb_execution_mode = "off"  # `make notebooks` executes them; the site shows the stored outputs
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # the default loads scripts from a server

# What is called by hand has pages of its modules: laws, records, figures. All other rooms answer
# through the public names; pages of 200 modules that nobody calls were most of a build.
CODE = HERE.parent / "qsjax"
INNER = ("catalog", "cli", "evidence", "grid", "numerics", "output", "questions", "streaming")
apidoc_modules = [
    {
        "path": str(CODE),
        "destination": "api",
        "separate_modules": True,
        "include_private": False,
        "automodule_options": {"members", "show-inheritance"},
        "exclude_patterns": [
            *(str(CODE / room / "*") for room in INNER),
            str(CODE / "engines" / "[!_]*"),
            str(CODE / "__main__.py"),
        ],
    }
]
# Names are told where they are defined, not once more in rooms that pass them on.
autodoc_default_options = {"ignore-module-all": True}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # "Attributes:" of records name what autodoc lists anyway
toc_object_entries = False

html_theme = "furo"
html_title = "qsjax"
html_math_renderer = "mathml"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def mathml(latex: str, display: str) -> str:
    r"""A formula as MathML, which browsers draw without any script.

    >>> mathml(r"\texttt{kv\_overhead}", "inline").count("kv_overhead")
    1
    """
    return convert(latex, display=display).replace(r"\_", "_")


def inline(self: nodes.NodeVisitor, node: nodes.Element) -> None:
    """Write a formula within a line."""
    _write(self, mathml(node.astext(), "inline"))


def block(self: nodes.NodeVisitor, node: nodes.Element) -> None:
    """Write a formula on lines of its own; a wide one scrolls."""
    formula = mathml(node.astext(), "block")
    _write(self, f'<div class="math" style="overflow-x: auto">{formula}</div>')


def _write(page: nodes.NodeVisitor, text: str) -> None:
    from docutils.nodes import SkipNode

    page.body.append(text)  # type: ignore[attr-defined]
    raise SkipNode


def copy_notebooks(app: Sphinx) -> None:
    """Sphinx reads sources under its own folder only."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for old in NOTEBOOKS.glob("*.ipynb"):
        old.unlink()
    for path in (HERE.parent / "notebooks").glob("*.ipynb"):
        shutil.copy(path, NOTEBOOKS)


def write_pages(app: Sphinx) -> None:
    """Write the pages of what is read and of the public names from what the code has.

    In processes of their own: Sphinx forks, which JAX does not survive once it has computed.
    """
    for name in ("supported", "public"):
        subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)


def skip(app: Sphinx, what: str, name: str, found: object, skipped: bool, options: object) -> bool:
    """Leave out what Python itself writes about the fields of a named tuple."""
    return skipped or str(getattr(found, "__doc__", "")).startswith("Alias for field number")


def shorten_navigation(
    app: Sphinx, name: str, template: str, context: dict[str, Any], tree: object
) -> None:
    """Open the tree of pages around the page only; the whole tree on each took half of a build.

    Pages of source code have none.
    """
    whole = context.pop("toctree", None)
    if whole and not name.startswith("_modules/"):
        context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def flaws(html: Path) -> list[str]:
    """What the pages load from servers, and pages and formulas that are missing."""
    pages = {path.relative_to(html).as_posix(): path for path in sorted(html.rglob("*.html"))}
    guides = [f"guides/{path.stem}.html" for path in (HERE / "guides").glob("*.md")]
    books = [f"notebooks/{path.stem}.html" for path in (HERE.parent / "notebooks").glob("*.ipynb")]
    formulas = "concepts/cost-model.html"
    needed = [formulas, "api/qsjax.cost.decode.html", *guides, *books]
    told = [f"{name} is missing" for name in needed if name not in pages]
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*src=\"(https?:[^\"]*)", text)
        loaded += re.findall(r"<link[^>]*href=\"(https?:[^\"]*)", text)
        told += [f"{name} loads {address}" for address in loaded]
        if name == formulas and "<math" not in text:
            told.append(f"{name} has no formula")
    return told


def look_at(app: Sphinx, error: Exception | None) -> None:
    """Fail the build where its pages have flaws."""
    from sphinx.errors import SphinxError

    if error is None and app.builder.name == "html" and (told := flaws(Path(app.outdir))):
        raise SphinxError("\n".join(told))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the formula renderer and what runs before and while pages are written."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", look_at)
    app.connect("html-page-context", shorten_navigation, priority=400)  # before the theme's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
