"""Times whole processes, interleaved, so that a machine whose speed drifts treats all alike."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Wall-clock seconds of repeated runs."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return f"{self.median:.2f} s [{low:.2f}, {high:.2f}], n = {len(self.seconds)}"


def processes(
    commands: Mapping[str, Sequence[str]], repeats: int = 5, **options: object
) -> dict[str, Times]:
    """Run each command in turn, `repeats` rounds after one that is not counted.

    options: of `subprocess.run` (cwd, env). A command that fails raises CalledProcessError.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(repeats + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, **options)  # type: ignore[call-overload]
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return {name: Times(tuple(values)) for name, values in seconds.items()}
