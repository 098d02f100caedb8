"""`inputs.json` of a result folder: what a run was asked, and what it read."""

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qsjax.output import files
from qsjax.records.specs import Workload


def of_file(path: Path) -> dict[str, str]:
    """What tells a file that a run read: its name, and the digest of its content."""
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def of_workload(workload: Workload) -> dict[str, Any]:
    """Sizes and dtypes; contexts and batches are among the flags."""
    fields = files.spec_dict(workload)
    return {name: value for name, value in fields.items() if name not in ("context", "batch")}


def text(
    verb: str, words: Sequence[str], flags: Mapping[str, Any], records: Mapping[str, Any]
) -> str:
    """What a run was asked, as JSON for `inputs.json`: command, flags, and what it read."""
    content = {
        "qsjax": version("qsjax"),
        "command": [verb, *words],
        "repeat": shlex.join(["qsjax", *sys.argv[1:]]),
        "flags": {k: v for k, v in flags.items() if v is not None and k not in ("out", "format_")},
        **records,
    }
    return json.dumps(files.finite(content), indent=1, default=str)
