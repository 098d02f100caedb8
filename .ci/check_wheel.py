"""Installs a wheel into an empty environment and runs every command of README.md with it.

`python .ci/check_wheel.py dist/qsjax-0.1.0-py3-none-any.whl`
"""

import re
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def commands(readme: str) -> list[str]:
    """The lines of shell blocks that start `qsjax`, and those of the table of questions."""
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL))
    lines = [line.split("  #")[0].strip() for line in shell.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(qsjax [^`]+)`", readme)
    return list(dict.fromkeys(line for line in lines if line.startswith("qsjax ")))


def is_name(program: Path, command: str) -> bool:
    """Whether it only names a verb: one that cannot run without arguments."""
    verb, *rest = shlex.split(command)[1:]
    help_ = subprocess.run([program, verb, "--help"], check=True, capture_output=True, text=True)
    return not rest and bool(re.search(r"\[OPTIONS\] (?!COMMAND)[A-Z]", help_.stdout))


def main(wheel: str) -> None:
    """Build the environment, and stop at the first command that fails."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files = re.findall(r"^```(?:toml|csv)\n# (\S+)\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        programs = folder / "env" / "bin"
        install = [programs / "python", "-m", "pip", "install", "--quiet", Path(wheel).resolve()]
        subprocess.run(install, check=True)
        for file, text in files:
            (folder / file).write_text(text)
        for command in commands(readme):
            if is_name(programs / "qsjax", command):
                continue
            sys.stdout.write(f"{command}\n")
            sys.stdout.flush()
            words = [programs / "qsjax", *shlex.split(command)[1:]]
            subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(sys.argv[1])
