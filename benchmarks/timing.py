"""Times whole processes, interleaved, so that drift of the machine's speed affects all alike."""

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


def time_processes(
    commands: Mapping[str, Sequence[str]], repeats: int = 5, **options: object
) -> dict[str, Times]:
    """Runs all commands in turn, for one warm-up round and `repeats` rounds.

    options: of `subprocess.run` (cwd, env). Raises CalledProcessError where a command fails.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(repeats + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, **options)  # type: ignore[call-overload]
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return {name: Times(tuple(values)) for name, values in seconds.items()}
