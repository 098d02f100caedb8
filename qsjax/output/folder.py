"""What tells a file that a run read, for `inputs.json`."""

import hashlib
from pathlib import Path


def of_file(path: Path) -> dict[str, str]:
    """Name of a file and the digest of its content."""
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
