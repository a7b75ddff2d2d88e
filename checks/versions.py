"""Runs the short tests with the oldest and the newest dependencies.

For each Python that pyproject.toml supports and each end of its bounds, `uv` creates an environment
under `.venvs/`, and pytest runs the tests there. A Python that is not installed and cannot be
downloaded is reported as absent. Arguments that are not listed here are pytest's:

    python -m checks.versions --python 3.11 --end oldest tests/core -k text
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
ENDS = {"oldest": "lowest-direct", "newest": "highest"}
"""What to call an end of the bounds, and uv's resolution for it."""
UV = (found,) if (found := shutil.which("uv")) else (sys.executable, "-m", "uv")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 if a test failed in any environment, or if no environment could be created."""
    parser = argparse.ArgumentParser(
        prog="python -m checks.versions",
        usage="%(prog)s [--python VERSION] [--end END] [PYTEST ARGUMENTS]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--python", action="append", metavar="VERSION", help="repeatable; default: all"
    )
    parser.add_argument("--end", action="append", choices=ENDS, help="repeatable; default: both")
    arguments, for_pytest = parser.parse_known_args(argv)
    if run(*UV, "--version").returncode:
        print("uv is not installed: run `python -m pip install uv`")
        return 1
    results: dict[str, str] = {}
    for python in arguments.python or PYTHONS:
        for end in arguments.end or ENDS:
            results[f"Python {python}, {end}"] = check(python, end, for_pytest)
    for name, result in results.items():
        print(f"{name}: {result}")
    failed = any(result.startswith("failed") for result in results.values())
    return int(failed or all(result.startswith("absent") for result in results.values()))


def check(python: str, end: str, for_pytest: Sequence[str]) -> str:
    """Returns the result of the tests in one environment, in words."""
    environment = ROOT / ".venvs" / f"{python}-{end}"
    created = run(*UV, "venv", "--quiet", "--allow-existing", "--python", python, str(environment))
    if created.returncode:
        reason = created.stderr.strip().splitlines()[-1].removeprefix("  cause: ")
        return f"absent: it is not installed, and uv cannot download it ({reason})"
    interpreter = str(environment / "bin" / "python")
    install = ("pip", "install", "--quiet", "--python", interpreter, "--resolution", ENDS[end])
    installed = run(*UV, *install, "--editable", ".[dev]")
    if installed.returncode:
        return f"failed to install: {installed.stderr.strip().splitlines()[-1]}"
    started = time.monotonic()
    command = [interpreter, "-m", "pytest", "-q", "-m", "not slow", "-n", "2", *for_pytest]
    tested = subprocess.run(command, cwd=ROOT, check=False)
    minutes = (time.monotonic() - started) / 60
    return f"{'passed' if tested.returncode == 0 else 'failed'} in {minutes:.1f} min"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the project's folder and captures what it prints."""
    environment = {"UV_LINK_MODE": "hardlink", **os.environ}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )


if __name__ == "__main__":
    sys.exit(main())
