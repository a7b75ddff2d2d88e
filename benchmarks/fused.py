"""A grid of trials from the start of the process to every metric readable in MLflow, side by side:
a newcomer's script, an expert's, Ray Core by hand, and the harness one by one and as stacks.

Every cell is a process of its own in an empty folder. Ways take turns, repeat by repeat, so that a
busy machine slows all. A slow way is run on fewer trials: from two numbers of trials follow its
start-up and its cost a trial, and cells that follow from these are marked with ≈.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.ways import harness
from benchmarks.ways.tasks import WORKS, Work

ROOT = Path(__file__).resolve().parent.parent
AUTO, OFF = "harness, --fuse auto", "harness, --fuse off"
FORCED = "harness, --fuse 256"
SCRIPTS = {"newcomer": "newcomer", "strong": "strong", "Ray Core": "by_ray"}
FUSE = {AUTO: "auto", OFF: "off", FORCED: "256"}
MOST_LOST = 0.03
"""What `auto` may lose to the better of its choices."""


@dataclass(frozen=True)
class Bar:
    """How many times as fast as a way `auto` is to be, on so many trials."""

    way: str
    trials: int
    factor: float


@dataclass(frozen=True)
class Part:
    """One table. sizes: numbers of trials of each way that are run. columns: those shown."""

    work: Work
    columns: tuple[int, ...]
    sizes: dict[str, tuple[int, ...]]
    bars: tuple[Bar, ...]


PARTS = (
    Part(
        WORKS["breast_cancer"],
        (1, 4, 16, 64, 256, 1024),
        {
            "newcomer": (1, 32),
            "strong": (1, 64),
            "Ray Core": (4, 64),
            OFF: (1, 4, 64),
            FORCED: (4, 64),
            AUTO: (1, 4, 16, 64, 256, 1024),
        },
        (Bar("newcomer", 1024, 40), Bar("strong", 1024, 8)),
    ),
    Part(
        WORKS["mnist_mlp"],
        (1, 4, 16, 64),
        {
            "newcomer": (1, 2),
            "strong": (1, 8),
            "Ray Core": (2, 8),
            OFF: (4, 16),
            FORCED: (16,),
            AUTO: (1, 4, 16, 64),
        },
        (Bar("newcomer", 64, 30), Bar("strong", 64, 4)),
    ),
    Part(
        WORKS["mnist_bn_cnn"],
        (1, 4, 16),
        {
            "newcomer": (1, 4),
            "strong": (1, 4),
            "Ray Core": (2, 6),
            OFF: (4, 16),
            FORCED: (4,),
            AUTO: (1, 4, 16),
        },
        (Bar("newcomer", 16, 3), Bar("strong", 16, 1.3)),
    ),
    Part(
        WORKS["mnist_cnn"],
        (1, 4, 16),
        {
            "newcomer": (1, 2),
            "strong": (1, 2),
            "Ray Core": (2, 4),
            OFF: (2, 4),
            FORCED: (4,),
            AUTO: (1, 4, 16),
        },
        (Bar("newcomer", 16, 3), Bar("strong", 16, 1.3)),
    ),
)


@dataclass
class Measured:
    """Seconds of a way by number of trials, a value a repeat."""

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def at(self, trials: int) -> tuple[list[float], bool]:
        """Seconds of each repeat for so many trials, and whether they were run."""
        if trials in self.seconds:
            return self.seconds[trials], True
        each, start = self.costs()
        return [s + trials * c for s, c in zip(start, each, strict=True)], False

    def costs(self) -> tuple[list[float], list[float]]:
        """Seconds a trial, and seconds of start-up, of each repeat: from its two largest runs."""
        few, many = sorted(self.seconds)[-2:]
        pairs = list(zip(self.seconds[few], self.seconds[many], strict=True))
        each = [max(0.0, (b - a) / (many - few)) for a, b in pairs]
        return each, [b - many * cost for (_, b), cost in zip(pairs, each, strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables as markdown, and the bars with what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fused", description=__doc__)
    names = [part.work.name for part in PARTS]
    parser.add_argument("--only", choices=names, action="append", help="these tables alone")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--most", type=int, default=1 << 20, help="no more trials than this")
    chosen = parser.parse_args([] if arguments is None else arguments)
    print(hardware(), f"{chosen.repeats} interleaved repeats", sep=", ")
    for part in PARTS:
        if not chosen.only or part.work.name in chosen.only:
            measured = _measure(part, chosen.repeats, chosen.most)
            print("\n".join(_report(part, measured, chosen.most)), flush=True)


def hardware() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "ray"))
    return f"{platform.machine()}, {os.cpu_count()} cores, {packages}"


def _measure(part: Part, repeats: int, most: int) -> dict[str, Measured]:
    measured = {way: Measured() for way in part.sizes}
    for repeat in range(repeats):
        for way, sizes in part.sizes.items():
            for trials in sizes:
                if trials > most:
                    continue
                seconds = _run(part.work, way, trials)
                measured[way].seconds.setdefault(trials, []).append(seconds)
                told = f"{part.work.name} {repeat + 1}: {way}, {trials} trials: {seconds:.1f} s"
                print(told, file=sys.stderr, flush=True)
    return measured


def _run(work: Work, way: str, trials: int) -> float:
    """Seconds of the whole process. Raises CalledProcessError where it fails, and RuntimeError
    where a metric cannot be read afterwards."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment.setdefault("HARNESS_DATA", str(ROOT / "data"))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "mlruns").mkdir()
        if way in SCRIPTS:
            module = f"benchmarks.ways.{SCRIPTS[way]}"
            command = [sys.executable, "-m", module, work.name, str(trials)]
        else:
            command = harness.command(work, trials, folder, FUSE[way])
        begun = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(f"{way} on {work.name} failed:\n{done.stdout}\n{done.stderr}")
        _require_metrics(folder, work, way, trials)
    return seconds


def _require_metrics(folder: Path, work: Work, way: str, trials: int) -> None:
    """Raises RuntimeError where a trial's history is not whole in the store."""
    import sqlite3

    sign = "/" if way in FUSE else "_"
    names = [f"{split}{sign}{kind}" for split in ("train", "val", "test") for kind in MEASURES]
    marks = ",".join("?" * len(names))
    query = f"select count(*) from metrics where step > 0 and key in ({marks})"
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as store:
        (found,) = store.execute(query, names).fetchone()
    wanted = trials * work.epochs * len(names)
    if found != wanted:
        raise RuntimeError(f"{way} on {work.name}: {found} of {wanted} values are in the store")


MEASURES = ("loss", "accuracy")


def _report(part: Part, measured: dict[str, Measured], most: int) -> Iterable[str]:
    columns = [k for k in part.columns if k <= most]
    work = part.work
    epochs = "1 epoch" if work.epochs == 1 else f"{work.epochs} epochs"
    yield f"\n{work.dataset}, {work.model['name']}, {epochs}: seconds, whole process"
    yield _row("way", *(f"K = {k}" for k in columns), "start-up", "ms a trial")
    yield _row("---", *("---:" for _ in columns), "---:", "---:")
    for way, found in measured.items():
        if len(found.seconds) < 2:
            continue
        each, start = found.costs()
        cells = [_cell(*found.at(k)) for k in columns]
        costs = (spread(start), spread([1000 * cost for cost in each]))
        yield _row(way, *cells, *costs)
    yield f"\n{work.dataset}, {work.model['name']}: times as fast is `{AUTO}`"
    yield _row("than", *(f"K = {k}" for k in columns))
    yield _row("---", *("---:" for _ in columns))
    for way, found in measured.items():
        if way != AUTO and len(found.seconds) > 1:
            yield _row(way, *(_ratio(found, measured[AUTO], k) for k in columns))
    yield ""
    for bar in part.bars:
        if bar.trials <= most:
            gains = _gains(measured[bar.way], measured[AUTO], bar.trials)
            verdict = "holds" if median(gains) >= bar.factor else "is missed"
            yield (
                f"{bar.trials} trials, at least {bar.factor:g} times {bar.way}: "
                f"{spread(gains)}: {verdict}"
            )
    yield from _lost(measured)


def _lost(measured: dict[str, Measured]) -> Iterable[str]:
    """By how much `auto` is behind the better of its choices, where all three were run."""
    for trials in sorted(measured[FORCED].seconds):
        if all(trials in measured[way].seconds for way in (AUTO, OFF)):
            times = {way: median(measured[way].seconds[trials]) for way in (AUTO, OFF, FORCED)}
            better = min((OFF, FORCED), key=lambda way: times[way])
            lost = times[AUTO] / times[better] - 1
            verdict = "holds" if lost <= MOST_LOST else "is missed"
            yield (
                f"{trials} trials, auto against the better of its choices ({better}): "
                f"{lost:+.1%}, at most {MOST_LOST:.0%}: {verdict}"
            )


def _gains(slow: Measured, quick: Measured, trials: int) -> list[float]:
    return [a / b for a, b in zip(slow.at(trials)[0], quick.at(trials)[0], strict=True)]


def _ratio(slow: Measured, quick: Measured, trials: int) -> str:
    return _cell(_gains(slow, quick, trials), slow.at(trials)[1] and quick.at(trials)[1])


def _cell(values: Sequence[float], was_run: bool) -> str:
    return spread(values) if was_run else f"≈ {spread(values)}"


def spread(values: Iterable[float]) -> str:
    """The median, and the range where there are several."""
    found = sorted(values)
    digits: Callable[[float], str] = lambda x: f"{x:.3g}" if x < 1000 else f"{x:.0f}"  # noqa: E731
    if len(found) == 1:
        return digits(found[0])
    return f"{digits(median(found))} [{digits(found[0])}, {digits(found[-1])}]"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
