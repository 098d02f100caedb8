"""What the machine has left, as far as its system tells."""

import math
import os
import re
from pathlib import Path

from qsjax.units import KIB

_MEMINFO = Path("/proc/meminfo")
# Free pages where the system counts them (Linux), else all of them (macOS).
_PAGES = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")


def free_memory() -> float:
    """Memory that a program may take without swapping [B]; infinite where the system does not say.

    Linux fills idle memory with cached files and gives it back when it is asked for: only
    `MemAvailable` counts it.
    """
    try:
        said = _MEMINFO.read_text("utf-8")
    except OSError:
        said = ""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", said, re.MULTILINE)
    if found:
        return float(found[1]) * KIB
    known = getattr(os, "sysconf_names", {})  # absent on Windows
    pages = next((name for name in _PAGES if name in known), None)
    if pages is None:
        return math.inf
    return float(os.sysconf(pages)) * os.sysconf("SC_PAGE_SIZE")
