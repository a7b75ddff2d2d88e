"""Runs the short tests with the oldest and the newest dependencies: `python -m checks.versions`.

For each Python that pyproject.toml supports and each end of its bounds, `uv` creates an environment
under `.venvs/`, and pytest runs the tests there. A Python that is not here and cannot be
downloaded is reported as absent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
ENDS = {"oldest": "lowest-direct", "newest": "highest"}
"""What to call an end of the bounds, and uv's resolution for it."""
UV = (sys.executable, "-m", "uv")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 if a test failed in any environment, or if no environment could be created."""
    parser = argparse.ArgumentParser(prog="python -m checks.versions", description=__doc__)
    parser.add_argument("--python", nargs="*", default=PYTHONS, help="default: all")
    parser.add_argument("--end", nargs="*", default=tuple(ENDS), choices=ENDS, help="default: both")
    parser.add_argument("tests", nargs="*", default=[], help="arguments of pytest")
    arguments = parser.parse_args(argv)
    results: dict[str, str] = {}
    for python in arguments.python:
        for end in arguments.end:
            results[f"Python {python}, {end}"] = check(python, end, arguments.tests)
    for name, result in results.items():
        print(f"{name}: {result}")
    failed = any(result.startswith("failed") for result in results.values())
    return int(failed or all(result.startswith("absent") for result in results.values()))


def check(python: str, end: str, tests: Sequence[str]) -> str:
    """The result of the tests in one environment, in words."""
    environment = ROOT / ".venvs" / f"{python}-{end}"
    created = run(*UV, "venv", "--quiet", "--allow-existing", "--python", python, str(environment))
    if created.returncode:
        return f"absent ({created.stderr.strip().splitlines()[-1]})"
    interpreter = str(environment / "bin" / "python")
    install = ("pip", "install", "--quiet", "--python", interpreter, "--resolution", ENDS[end])
    installed = run(*UV, *install, "--editable", ".[dev]")
    if installed.returncode:
        return f"failed to install: {installed.stderr.strip().splitlines()[-1]}"
    started = time.monotonic()
    command = [interpreter, "-m", "pytest", "-q", "-m", "not slow", "-n", "2", *tests]
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
