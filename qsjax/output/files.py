"""Atomic writing of JSON, CSV, netCDF and pictures."""

import csv
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsjax.catalog.reading import decoded

if TYPE_CHECKING:
    import xarray as xr


FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError on a full disk


def folder_of(path: str | Path) -> Path:
    """The folder of results at a path, made if it is not there.

    Raises:
        ValueError: it is no name, or cannot be made, such as where a file has its name.
    """
    if not isinstance(path, str | Path) or path == "":
        raise ValueError(f"{path!r} is not the name of a folder; give one, as results/mine")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{path} cannot be written: {error.strerror or error}"
        raise ValueError(f"{why}; results take a folder, so name one") from error
    return Path(path)


def write_atomically(path: Path, content: str | bytes, *, through: bool = False) -> None:
    """Write `path` in one step: it holds the old content or the new, never a part.

    `through` waits until it is on the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if through:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)  # an interruption may come after it was moved
        raise


def asset(name: str) -> str:
    """Text of a file that the package's pages are made of, by its path in this room."""
    return (files("qsjax.output") / name).read_text(encoding="utf-8")


def content_of(path: Path) -> str:
    """Content of a text file, as `catalog.reading.decoded` reads it.

    Raises:
        ValueError: it cannot be read, or is no text.
    """
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not a text file in UTF-8 ({error})") from error


def told(path: Path, read: Sequence[Path] = ()) -> dict[str, str]:
    """What tells a file that a run read, for `inputs.json`: its name, the digest of its content.

    Of a folder, the digest is that of the contents of those of its files that were read.
    """
    digest = hashlib.sha256()
    for one in read or (path,):
        digest.update(one.read_bytes())
    return {"name": path.name, "sha256": digest.hexdigest()}


def finite(value: Any) -> Any:
    """`value` with numbers that JSON does not know replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """`value` as a JSON file, written in one step; NaN and infinity become null."""
    write_atomically(path, json.dumps(finite(value), indent=1, default=str) + "\n")


def write_dataset(path: Path, dataset: "xr.Dataset") -> None:
    """`dataset` as a netCDF file, written in one step."""
    write_atomically(path, bytes(dataset.to_netcdf(engine="h5netcdf")))


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such a text gets an apostrophe ahead."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
    return f"'{value}" if is_formula else value


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> str:
    """Rows of scalars as CSV; `columns` come first, also where there is no row."""
    columns = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def draw(folder: Path, drawings: Mapping[str, Any]) -> list[str]:
    """Draw (each callable returns its Axes) and write every picture as SVG; the file names."""
    from qsjax import plotting  # a second to import: only who wants pictures pays

    names = []
    for name, drawing in drawings.items():
        write_atomically(folder / f"{name}.svg", plotting.render(drawing()))
        names.append(f"{name}.svg")
    return names
