"""Executes the stories in `sources/` and writes them as notebooks with their outputs.

A source is Markdown; its ```python blocks become code cells. `python notebooks/build.py` builds
all, `python notebooks/build.py 2-paper` one.
"""

import os
import re
import sys
from pathlib import Path

import nbformat

os.environ["QSJAX_PROGRESS"] = "off"  # a line that is wiped leaves its characters in an output
HERE = Path(__file__).parent
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a run adds that differs from run to run.
VOLATILE = ("execution", "collapsed", "scrolled")


def cells(source: str) -> list[nbformat.NotebookNode]:
    """Cells of a source, text and code in turn, with ids that stay the same."""
    parts = FENCE.split(source)
    made = []
    for position, part in enumerate(parts):
        if not part.strip():
            continue
        make = nbformat.v4.new_code_cell if position % 2 else nbformat.v4.new_markdown_cell
        made.append(make(part.strip(), id=f"cell-{len(made):02}"))
    return made


def notebook(source: str) -> nbformat.NotebookNode:
    """The notebook of a source, without outputs."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells(source), metadata=metadata)


def clean(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop timestamps and the like, so that a rerun changes only what its outputs change."""
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k not in VOLATILE}
    book.metadata = {"kernelspec": book.metadata["kernelspec"], "language_info": {"name": "python"}}
    return book


def build(path: Path) -> Path:
    """Execute one source; the path of its notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message shows it.
    """
    from nbclient import NotebookClient  # what only looks at notebooks goes without

    book = notebook(path.read_text(encoding="utf-8"))
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
    target = HERE / f"{path.stem}.ipynb"
    nbformat.write(clean(book), target)
    return target


if __name__ == "__main__":
    chosen = sys.argv[1:] or [path.stem for path in sorted((HERE / "sources").glob("*.md"))]
    for name in chosen:
        print(build(HERE / "sources" / f"{name}.md").name)
