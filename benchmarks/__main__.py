"""`python -m benchmarks [NAME…]`: runs all benchmarks of this folder, or some."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"__init__", "__main__", "own_module", "timing"}


def names() -> list[str]:
    """Returns the benchmarks: the modules here that have a `main`."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in HELPERS)


def main(arguments: list[str]) -> int:
    unknown = set(arguments) - set(names())
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names())}")
        return 2
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "optuna"))
    print(f"Python {platform.python_version()}, {packages}, {platform.machine()}")
    for name in arguments or names():
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
