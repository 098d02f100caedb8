"""The result of every question: labelled numbers, tables, figures and files."""

import dataclasses
import html
import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qsjax.cost.meanings import Meaning, meaning_of
from qsjax.grid.problem import Problem
from qsjax.grid.remarks import beyond_published, hardly_in_si, only_dense, under_other_names
from qsjax.output import files
from qsjax.output.labels import axis_value, variant_name
from qsjax.records.conversion import kind_of
from qsjax.records.rows import leaves

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Row = dict[str, Any]
Drawing = Callable[..., Any]
CELL = ("model", "hardware", "variant", "gpus", "context")  # axes of a cell of any problem
SHOWN = 8  # rows of a result in a notebook or at the prompt of Python
# Columns of its lines there; cells up to FOLDED wide stay on one.
WIDE, FOLDED = 132, 24


class Table(NamedTuple):
    """A table for people.

    Attributes:
        title: above it.
        heads: of its columns, with units.
        rows: cells as text, one row as long as the heads; an empty row is a rule.
        left: how many of the first columns are text.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def flat(row: Mapping[str, Any]) -> Row:
    """A row with one scalar a column: mappings by dotted names, lists as text."""
    return {
        name: " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in leaves(row)
    }


class Result:
    """The answer to a question.

    A question's own result says what its rows and drawings are; the rest follows.
    """

    __slots__ = ()
    # Stem of the files that hold the rows.
    stem = "result"
    # Columns of the printed table, in order; those that rows lack are left out.
    columns: tuple[str, ...] = ()
    # Columns whose values are the axes of the data set, "cell" for those of `CELL` and of the
    # problem; over `row` without them.
    index: tuple[str, ...] = ()
    # Columns of the data frame that rows lack where no design runs.
    framed: tuple[str, ...] = ()
    # Columns of lists of numbers, each with the name of the axis along them.
    listed: tuple[tuple[str, str], ...] = ()
    # Fields that say what was asked beside the problem; a field `asked` says all that it holds.
    given: tuple[str, ...] = ()
    # What columns are that mean something else elsewhere.
    meanings: Mapping[str, Meaning] = MappingProxyType({})

    def rows(self) -> list[Row]:
        """One row for each cell, in the units of `dataset`."""
        raise NotImplementedError

    def summary(self) -> str:
        """The answer in one to three sentences with its numbers."""
        raise NotImplementedError

    def tables(self) -> list[Table]:
        """Tables for people, the most telling one first."""
        rows = [flat(row) for row in self.rows()]
        known = dict.fromkeys(name for row in rows for name in row)
        heads = [name for name in self.columns or known if name in known]
        problem: Problem | None = getattr(self, "problem", None)
        kept = [] if problem is None else [name for name in problem.stated.kept if name in known]
        if "context" in heads:
            at = heads.index("context") + 1
            heads[at:at] = [name for name in kept if name not in heads]
        cells = [
            [axis_value(n, row[n]) if n in kept and n in row else text(row.get(n)) for n in heads]
            for row in rows
        ]
        return [Table("", heads, cells, 0)] if heads else []

    def remarks(self) -> list[str]:
        """Remarks below the tables, one line each."""
        return []

    def lengths(self) -> Sequence[float]:
        """Contexts that were asked for [tokens]: of the problem, or of requests."""
        problem: Problem | None = getattr(self, "problem", None)
        return () if problem is None or problem.context is None else problem.stated.contexts

    def cautions(self) -> list[str]:
        """What to know before the answer: contexts beyond a model, odd units, twins of none."""
        problem: Problem | None = getattr(self, "problem", None)
        lines = []
        if problem is not None:
            lines = [*under_other_names(problem), *beyond_published(problem, self.lengths())]
            lines += [*hardly_in_si(problem), *only_dense(problem)]
        return [f"Note: {line}" for line in lines]

    def record(self) -> Row:
        """Everything as plain numbers, for `result.json`."""
        return {"rows": self.rows()}

    def inputs(self) -> Row:
        """What was asked, as plain numbers, for `inputs.json`."""
        problem: Problem | None = getattr(self, "problem", None)
        stated = {} if problem is None else inputs_of(problem)
        given = {name: plain(getattr(self, name)) for name in self.given}
        return stated | getattr(self, "asked", {}) | given

    def more_files(self) -> dict[str, str]:
        """Content of further files by name."""
        return {}

    def drawings(self) -> dict[str, Drawing]:
        """Figures by name, the first one the most telling; each takes an optional `ax`."""
        return {}

    def meaning(self, name: str) -> Meaning:
        """What a column is, and its unit."""
        return self.meanings.get(name) or meaning_of(name)

    def _axes(self) -> list[str]:
        """The columns of `index`."""
        problem: Problem | None = getattr(self, "problem", None)
        cell = (*CELL, *(() if problem is None else problem.stated.kept))
        parts = (cell if name == "cell" else (name,) for name in self.index)
        return list(dict.fromkeys(name for part in parts for name in part))

    @property
    def dataset(self) -> "xr.Dataset":
        """The numbers over named axes, each with its unit and what it is."""
        import xarray as xr

        rows, table = self.rows(), self.frame()
        axes = [name for name in self._axes() if name in table]
        if "variant" in axes:
            table["variant"] = [variant_name(row) for row in rows]
        for name in table.columns:
            if table[name].dtype == object:
                table[name] = _of_one_kind(table[name])
        split = [
            (name, along, _split(table, name, [row[name] for row in rows]))
            for name, along in self.listed
        ]
        is_grid = axes and not table.duplicated(axes).any()
        order = {name: list(dict.fromkeys(table[name])) for name in axes if is_grid}
        # Texts as objects: xarray reduces them (`idxmax`), and not the texts of pandas 3.
        table = table.astype(dict.fromkeys(table.select_dtypes("string"), object))
        table = table.set_index(list(order)) if order else table.rename_axis("row")
        data: xr.Dataset = xr.Dataset.from_dataframe(table).sel(order)
        for name, along, parts in split:
            whole = xr.concat([data[part] for part in parts], along, coords="minimal")
            data = data.drop_vars(parts).assign({name: whole.transpose(..., along)})
        for name in data.data_vars:  # where the grid has cells that no row is of
            if data[name].dtype == object and data[name].isnull().any():
                is_truth = table[name].dtype.kind == "b"
                data[name] = data[name].astype(float) if is_truth else data[name].fillna("")
        for name in (*data.data_vars, *data.coords):
            data[name].attrs |= self.meaning(str(name))._asdict()
        return data

    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas data frame, one scalar a column; NaN where no design runs."""
        import pandas as pd  # comes with xarray

        frame = pd.DataFrame([flat(row) for row in self.rows()])
        return frame.reindex(columns=[*frame, *(x for x in self.framed if x not in frame)])

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that `plot` draws, the most telling one first."""
        return tuple(self.drawings())

    def plot(self, name: str | None = None, ax: Any = None) -> Any:
        """A figure of the result, on `ax` if one is given; the matplotlib Axes.

        Raises:
            ValueError: there is no figure of this name, or nothing to draw.
        """
        drawings = self.drawings()
        if not drawings:
            raise ValueError(f"there is nothing to draw: {self._why_no_figure()}")
        if name is not None and name not in tuple(drawings):
            raise ValueError(f"no figure {name!r}; give one of {', '.join(drawings)}")
        if ax is not None and not hasattr(ax, "set_title"):
            raise ValueError(f"ax: {kind_of(ax)} is not one matplotlib Axes; give one, as axes[0]")
        return drawings[name or next(iter(drawings))](ax=ax)

    def _why_no_figure(self) -> str:
        if type(self).drawings is Result.drawings:
            return f"{type(self).__name__} is numbers alone; see rows(), frame() or dataset"
        if any(row.get("is_feasible", True) for row in self.rows()):
            return "it takes several contexts or loads; rows() and frame() have the numbers of one"
        return "no cell has a design"

    def save(self, folder: str | Path, asked: Mapping[str, Any] | None = None) -> list[Path]:
        """Write data, figures and inputs into a folder, each file in one step; their paths.

        Args:
            folder: made if it is not there.
            asked: what else `inputs.json` says, such as the command.

        Raises:
            ValueError: there can be no folder of this name.
            OSError: the disk is full.
        """
        out = files.folder_of(folder)
        rows = self.rows()
        head = {"qsjax": version("qsjax"), **(asked or {})}
        files.write_json(out / "inputs.json", {**head, **self.inputs()})
        files.write_json(out / "result.json", {"answer": self.summary(), **self.record()})
        files.write_atomically(out / f"{self.stem}.csv", files.csv_text([flat(r) for r in rows]))
        written = ["inputs.json", "result.json", f"{self.stem}.csv"]
        data = self.dataset
        if data.sizes:
            files.write_dataset(out / f"{self.stem}.nc", data)
            written.append(f"{self.stem}.nc")
        written += files.draw(out, self.drawings())
        for name, content in self.more_files().items():
            files.write_atomically(out / name, content)
            written.append(name)
        return [out / name for name in written]

    def _first(self) -> tuple[list[Table], int]:
        """The first rows of the first table and of those like it, and how many more there are."""
        tables = [table for table in self.tables() if table.rows]
        shown: list[Table] = []
        left = more = 0
        for table in (one for one in tables if one.heads[:2] == tables[0].heads[:2]):
            rows = [row for row in table.rows if row]
            taken = rows[: SHOWN - left]
            left, more = left + len(taken), more + len(rows) - len(taken)
            shown += [table._replace(rows=taken)] if taken else []
        return shown, more

    def __repr__(self) -> str:
        tables, more = self._first()
        lines = [self.summary(), *self.cautions()]
        for table in tables:
            lines += [table.title] if len(tables) > 1 else []
            lines += _lines(table.heads, table.rows)
        return "\n".join([*lines, *([_rest(more)] if more else [])])

    def _repr_html_(self) -> str:
        tables, more = self._first()

        def line(tag: str, row: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(x)}</{tag}>" for x in row) + "</tr>"

        answer = "\n".join([self.summary(), *self.cautions()])
        parts = [f"<p>{html.escape(answer).replace(chr(10), '<br>')}</p>"]
        for table in tables:
            body = "".join([line("th", table.heads), *(line("td", row) for row in table.rows)])
            title = f"<caption>{html.escape(table.title)}</caption>" if table.title else ""
            parts.append(f"<table>{title}{body}</table>")
        return "".join([*parts, *([f"<p>{_rest(more)}</p>"] if more else [])])


def _of_one_kind(column: "pd.Series") -> "pd.Series":
    """A column of objects as texts, or as numbers: truths are 1 and 0, what is missing NaN.

    A text among numbers is NaN too: rows and the CSV have it.
    """
    known = column.dropna()
    numbers = known[known.map(lambda x: isinstance(x, bool | int | float))]
    is_number = known.empty or 2 * len(numbers) > len(known)
    return numbers.astype(float) if is_number else column.fillna("").astype(str)


def _split(table: "pd.DataFrame", name: str, lists: Sequence[Sequence[float]]) -> list[str]:
    """Put a column for each place of lists of numbers in place of their text; their names."""
    parts = [f"{name} {k}" for k in range(max([1, *map(len, lists)]))]
    for k, part in enumerate(parts):
        table[part] = [float(numbers[k]) if k < len(numbers) else np.nan for numbers in lists]
    del table[name]
    return parts


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in lines of at most WIDE columns, as far as folding its long cells makes them so."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [
        max(FOLDED, len(head), *(len(word) for cell in cells for word in cell.split()))
        for head, *cells in columns
    ]
    while sum(widths) + 2 * (len(widths) - 1) > WIDE:
        widest = max(range(len(widths)), key=lambda k: widths[k] - least[k])
        if widths[widest] <= least[widest]:
            break
        widths[widest] -= 1
    lines = []
    for row in [heads, *rows]:
        cells = [
            textwrap.wrap(cell, width, break_on_hyphens=False)
            for cell, width in zip(row, widths, strict=True)
        ]
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            both = zip(parts, widths, strict=True)
            lines.append("  ".join(part.rjust(width) for part, width in both))
    return lines


def _rest(more: int) -> str:
    return f"... and {more} more {'row' if more == 1 else 'rows'}"


def text(value: Any) -> str:
    """A cell of a table as people read it."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int | float):
        return f"{value:,.0f}"
    return str(value)


def plain(record: Any) -> Any:
    """A record as JSON knows it: dataclasses and named tuples as mappings, arrays as lists."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, tuple) and hasattr(record, "_asdict"):
        return {name: plain(value) for name, value in record._asdict().items()}
    if isinstance(record, Mapping):
        return {str(name): plain(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [plain(item) for item in record]
    if isinstance(record, str | bool | None):
        return record
    return np.asarray(record).tolist()


def spec_dict(record: Any) -> Row:
    """A record's fields as plain numbers and strings, without its label.

    The precision of a model is left out: a workload says in which it is counted.
    """
    return {k: x for k, x in plain(record).items() if k not in ("label", "precision")}


def inputs_of(problem: Problem) -> Row:
    """A problem as plain numbers, for `inputs.json`."""
    stated = problem.stated
    return {
        "models": {m.name: plain(m.spec) for m in stated.models},
        "workloads": {m.name: plain(m.workload) for m in stated.models},
        "hardware": {h.name: plain(h.spec) for h in stated.accelerators},
        "gpus": list(stated.gpus),
        "contexts": list(stated.contexts),
        "twins": list(stated.twins),
        "batch": list(stated.batches or ()) or ("best" if stated.any_batch else "largest"),
        "limits": plain(problem.limits),
        "economy": plain(problem.economy),
        "objective": problem.objective,
        "engine": problem.engine,
        "convention": plain(stated.rules),
        "axes": stated.searched | stated.kept,
    }
