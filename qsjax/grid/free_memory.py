"""Free memory, as the operating system or the container reports it."""

import math
import os
import re
from pathlib import Path

from qsjax.records.units import KIB

_MEMINFO = Path("/proc/meminfo")
# Limit and use of a container's memory, in the second and the first version of control groups.
_GROUPS = Path("/sys/fs/cgroup")
_ACCOUNTS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
# Free pages where the system counts them (Linux), else all of them (macOS).
_PAGES = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")


def free_memory() -> float:
    """Memory that a program may take without swapping [B]; infinite where the system does not say.

    Linux fills idle memory with cached files and gives it back when it is asked for: only
    `MemAvailable` counts it. A container may have less than its machine.
    """
    return min(_of_system(), _of_container())


def _of_container() -> float:
    for limit, used, parts in _ACCOUNTS:
        try:
            most, taken, stat = ((_GROUPS / x).read_text("utf-8") for x in (limit, used, parts))
        except OSError:
            continue
        if most.strip().isdigit():  # "max" is no limit
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", stat, re.MULTILINE)
            return max(0.0, float(most) - float(taken) + (float(cached[1]) if cached else 0.0))
    return math.inf


def _of_system() -> float:
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
