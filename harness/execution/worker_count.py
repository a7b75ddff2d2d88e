"""How many workers train a plan fastest: measured by real training in real processes."""

from __future__ import annotations

import json
import pickle
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.core.text import plural
from harness.execution.executors.worker import Answer, Go, Measure, Pace, Ready, send
from harness.execution.executors.worker_start import SharedFolder, start
from harness.execution.measurements import machine, recall, remember
from harness.experiment.trial import Trial

ROUNDS = 3
"""How often each number of workers is measured, in turn with the others, so that what else the
machine does meanwhile falls on all alike; the median counts."""
SECONDS = 0.5
"""Of training in each round, after everything is loaded and warm."""
NEAR = 1.05
"""Within this factor of the fastest, one worker a core is taken: it is what a sweep does by
default, and a few hundredths are within what measurements differ by."""
KEPT_SECONDS = 30 * 24 * 3600.0
"""How long a measurement is believed."""
KINDS = 4
"""Kinds of trials measured at most, the most frequent first: the others count as these do."""

MEASURED = "at"
"""Of an entry: when it was measured, in seconds since 1970."""

Paces = Mapping[int, float]
"""By the number of workers: epochs a second of all of them together."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Trials whose epochs take equally long. example: one of them. epochs: of all of them."""

    name: str
    example: Trial
    epochs: float


def counts(cores: int, trials: int) -> list[int]:
    """Numbers of workers worth a measurement: 1, 2, 4, … and one a core."""
    found = {1, min(cores, trials)}
    count = 2
    while count < min(cores, trials):
        found.add(count)
        count *= 2
    return sorted(found)


def kinds(trials: Sequence[Trial]) -> list[Kind]:
    """The most frequent kinds of a plan's trials: by model, data set, batch size and precision."""
    passes: Counter[str] = Counter()
    examples: dict[str, Trial] = {}
    for trial in trials:
        name = json.dumps(
            [
                trial.model.resolved(),
                trial.dataset.identity(),
                trial.batch_size,
                trial.precision,
                [choice.resolved() for choice in trial.augment],
            ],
            sort_keys=True,
        )
        passes[name] += trial.epochs
        examples.setdefault(name, trial)
    return [Kind(name, examples[name], float(n)) for name, n in passes.most_common(KINDS)]


def fastest(measured: Sequence[tuple[Kind, Paces]], candidates: Sequence[int]) -> int:
    """The number of workers with which the kinds together take the least time; the most, which is
    the default, where that is as good as the fastest. candidates: in rising order."""
    seconds = {n: sum(kind.epochs / paces[n] for kind, paces in measured) for n in candidates}
    best = min(candidates, key=lambda n: seconds[n])
    return candidates[-1] if seconds[candidates[-1]] <= NEAR * seconds[best] else best


def workers(trials: Sequence[Trial], data_root: Path, cores: int, memory: Path) -> tuple[int, str]:
    """The number of workers for a plan's trials on the CPU, and how it was found, for people.

    memory: a file of what was measured before on this machine, so that the rest of a plan that was
    interrupted trains with as many threads as its beginning. What is older than `KEPT_SECONDS`, or
    of another release of torch, is measured again.
    """
    candidates = counts(cores, len(trials))
    if len(candidates) == 1:
        return candidates[0], "one trial at a time: there is nothing to measure"
    known = recall(memory)
    measured: list[tuple[Kind, Paces]] = []
    fresh = False
    with _Bench(cores) as bench:
        for kind in kinds(trials):
            name = f"{machine(cores)} {kind.name}"
            if not _is_valid(known.get(name, {}), candidates):
                fresh = True
                paces = bench.paces(kind.example, data_root, candidates)
                known[name] = {str(n): pace for n, pace in paces.items()} | {MEASURED: time.time()}
            measured.append((kind, {n: known[name][str(n)] for n in candidates}))
    if fresh:
        remember(memory, known)
    count = fastest(measured, candidates)
    return count, f"{plural(count, 'worker')} ({_told(measured, candidates, fresh)})"


def _is_valid(entry: Mapping[str, float], candidates: Sequence[int]) -> bool:
    """Whether all candidates were measured together, and not too long ago."""
    age = time.time() - entry.get(MEASURED, 0.0)
    return 0 <= age < KEPT_SECONDS and all(entry.get(str(n), 0.0) > 0 for n in candidates)


def _told(measured: Sequence[tuple[Kind, Paces]], candidates: Sequence[int], fresh: bool) -> str:
    when = f"measured now, medians of {ROUNDS}" if fresh else "measured before"
    return f"{when}: " + "; ".join(
        f"{kind.example.model.name} on {kind.example.dataset.name}: "
        + ", ".join(f"{paces[n]:.3g} epochs/s with {n}" for n in candidates)
        for kind, paces in measured
    )


class _Bench:
    """Workers that measure, started when first asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._shared: SharedFolder | None = None
        self._workers: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *error: object) -> None:
        for process, pipe in self._workers:
            process.kill()
            process.join()
            process.close()
            pipe.close()
        if self._shared is not None:
            self._shared.remove()

    def paces(self, trial: Trial, data_root: Path, candidates: Sequence[int]) -> Paces:
        """The median of each number of workers, all measured in turn."""
        found: dict[int, list[float]] = {count: [] for count in candidates}
        for _ in range(ROUNDS):
            for count in candidates:
                threads = max(1, self._most // count)
                found[count].append(self.pace(trial, data_root, count, threads))
        return {count: statistics.median(paces) for count, paces in found.items()}

    def pace(self, trial: Trial, data_root: Path, count: int, threads: int) -> float:
        """Epochs a second of `count` workers that train the trial at the same time; a trial that
        cannot be trained is as fast in every way."""
        pipes = self._started(count)
        for pipe in pipes:
            send(pipe, Measure(trial, data_root, threads, SECONDS))
        answers = [_answer(pipe) for pipe in pipes]
        if any(not isinstance(answer, Ready) or answer.problem for answer in answers):
            self.__exit__()
            self._workers, self._shared = [], None
            return 1.0
        for pipe in pipes:
            send(pipe, Go())
        return sum(_epochs_per_second(_answer(pipe)) for pipe in pipes)

    def _started(self, count: int) -> list[Connection]:
        if self._shared is None:
            self._shared = SharedFolder.make()
        while len(self._workers) < count:
            self._workers.append(start(1, self._shared))
        return [pipe for _, pipe in self._workers[:count]]


def _answer(pipe: Connection) -> Answer | None:
    """None of a worker that died."""
    try:
        answer: Answer = pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own worker
    except (EOFError, OSError):
        return None
    return answer


def _epochs_per_second(answer: Answer | None) -> float:
    return answer.epochs_per_second if isinstance(answer, Pace) else 1.0
