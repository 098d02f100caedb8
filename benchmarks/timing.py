"""Seconds of a call, and the machine that they were measured on."""

import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from qsjax.streaming.hosts import cores


def best_seconds(call: Callable[[], Any], seconds: float = 1.5, least: int = 3) -> float:
    """Shortest of repeated calls: the machine may be shared, and others only ever add time."""
    jax.block_until_ready(call())
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far [MB].

    Linux keeps the parent's peak in `ru_maxrss` of a new program, but not in VmHWM.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6


def processor() -> str:
    """Name of the processor, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Device and versions beside every number."""
    return {
        "backend": jax.default_backend(),
        "device": str(jax.devices()[0].device_kind),
        "devices": jax.device_count(),
        "processor": processor(),
        "cores": cores(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
    }
