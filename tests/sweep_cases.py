"""Small sweeps as files, and the command that runs them in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

SPEC = """\
[sweep]
models = ["mixtral-8x7b"]
twins = [3]
hardware = ["h100-sxm"]

[axes]
gpus = [8]
context = {from = 1024, to = 1048576, steps = 40, scale = "log"}
hbm_bw = {from = 2e12, to = 8e12, steps = 25}

[outputs]
top_k = 5
pareto = true
statistics = ["tpot"]
"""
# Files of a result that must not depend on how it came about.
RESULTS = ("winners.csv", "top.csv", "front.csv", "summary.json")


def command(spec: Path, out: Path, *flags: str) -> list[str]:
    """The command line of a sweep."""
    return [sys.executable, "-m", "qsjax", "sweep", str(spec), "--out", str(out), *flags]


def environment(**extra: str) -> dict[str, str]:
    """A process without this one's settings of JAX; its programs are compiled as the tests' are."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PYTEST"))}
    return {**kept, "JAX_PLATFORMS": "cpu", **extra}


def launch(spec: Path, out: Path, *flags: str, **options: str) -> subprocess.Popen[str]:
    """Start a sweep."""
    return subprocess.Popen(
        command(spec, out, "--devices", "2", *flags),
        env=environment(**options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(spec: Path, out: Path, *flags: str, **options: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a sweep."""
    process = launch(spec, out, *flags, **options)
    output, error = process.communicate(timeout=240)
    return process.returncode, output, error


def files(out: Path) -> dict[str, bytes]:
    """The results as bytes."""
    return {name: (out / name).read_bytes() for name in RESULTS}
