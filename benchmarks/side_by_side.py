"""Times a grid of trials in several ways, from the start of the process to every metric in MLflow.

The ways are a newcomer's script, an expert's script, Ray Core by hand, and the harness one by one
and with stacks. Every cell is a process of its own in an empty folder. Ways take turns, repeat by
repeat, so that a busy machine slows all of them. A slow way runs on fewer trials: two numbers of
trials give its start-up and its cost a trial, and cells computed from these are marked with ≈.
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

from benchmarks.scripts import harness_sweep
from benchmarks.scripts.workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parent.parent
AUTO, OFF = "harness, --fuse auto", "harness, --fuse off"
FORCED = "harness, --fuse 256"
SCRIPTS = {"newcomer": "newcomer", "expert": "expert", "Ray Core": "ray_core"}
FUSE = {AUTO: "auto", OFF: "off", FORCED: "256"}
MAX_LOSS = 0.03
"""How much slower `auto` may be than the better of its choices."""


@dataclass(frozen=True)
class Target:
    """How many times as fast as another way `auto` must be, on a number of trials."""

    way: str
    trials: int
    factor: float


@dataclass(frozen=True)
class TableSpec:
    """One table.

    sizes: the numbers of trials that each way runs.
    columns: the numbers of trials that are shown.
    """

    workload: Workload
    columns: tuple[int, ...]
    sizes: dict[str, tuple[int, ...]]
    targets: tuple[Target, ...]


TABLES = (
    TableSpec(
        WORKLOADS["breast_cancer"],
        (1, 4, 16, 64, 256, 1024),
        {
            "newcomer": (1, 32),
            "expert": (1, 64),
            "Ray Core": (4, 64),
            OFF: (1, 4, 64),
            FORCED: (4, 64),
            AUTO: (1, 4, 16, 64, 256, 1024),
        },
        (Target("newcomer", 1024, 40), Target("expert", 1024, 8)),
    ),
    TableSpec(
        WORKLOADS["mnist_mlp"],
        (1, 4, 16, 64),
        {
            "newcomer": (1, 2),
            "expert": (1, 8),
            "Ray Core": (2, 8),
            OFF: (4, 16),
            FORCED: (16,),
            AUTO: (1, 4, 16, 64),
        },
        (Target("newcomer", 64, 30), Target("expert", 64, 4)),
    ),
    TableSpec(
        WORKLOADS["mnist_bn_cnn"],
        (1, 4, 16),
        {
            "newcomer": (1, 4),
            "expert": (1, 4),
            "Ray Core": (2, 6),
            OFF: (4, 16),
            FORCED: (4,),
            AUTO: (1, 4, 16),
        },
        (Target("newcomer", 16, 3), Target("expert", 16, 1.3)),
    ),
    TableSpec(
        WORKLOADS["mnist_cnn"],
        (1, 4, 16),
        {
            "newcomer": (1, 2),
            "expert": (1, 2),
            "Ray Core": (2, 4),
            OFF: (2, 4),
            FORCED: (4,),
            AUTO: (1, 4, 16),
        },
        (Target("newcomer", 16, 3), Target("expert", 16, 1.3)),
    ),
)


@dataclass
class Timings:
    """The seconds of one way by number of trials, with a value for each repeat."""

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def at(self, trials: int) -> tuple[list[float], bool]:
        """Returns the seconds of each repeat for a number of trials, and whether they were run."""
        if trials in self.seconds:
            return self.seconds[trials], True
        each, start = self.costs()
        return [s + trials * c for s, c in zip(start, each, strict=True)], False

    def costs(self) -> tuple[list[float], list[float]]:
        """Returns each repeat's seconds a trial, and of start-up, from its two largest runs."""
        few, many = sorted(self.seconds)[-2:]
        pairs = list(zip(self.seconds[few], self.seconds[many], strict=True))
        each = [max(0.0, (b - a) / (many - few)) for a, b in pairs]
        return each, [b - many * cost for (_, b), cost in zip(pairs, each, strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables as markdown, and the targets with what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    names = [table.workload.name for table in TABLES]
    parser.add_argument("--only", choices=names, action="append", help="these tables alone")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--most", type=int, default=1 << 20, help="run no more trials than this")
    options = parser.parse_args([] if arguments is None else arguments)
    print(hardware(), f"{options.repeats} interleaved repeats", sep=", ")
    for table in TABLES:
        if not options.only or table.workload.name in options.only:
            measured = _measure(table, options.repeats, options.most)
            print("\n".join(_report(table, measured, options.most)), flush=True)


def hardware() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "ray"))
    return f"{platform.machine()}, {os.cpu_count()} cores, {packages}"


def _measure(table: TableSpec, repeats: int, most: int) -> dict[str, Timings]:
    measured = {way: Timings() for way in table.sizes}
    for repeat in range(repeats):
        for way, sizes in table.sizes.items():
            for trials in sizes:
                if trials > most:
                    continue
                seconds = _run(table.workload, way, trials)
                measured[way].seconds.setdefault(trials, []).append(seconds)
                line = (
                    f"{table.workload.name} {repeat + 1}: {way}, {trials} trials: {seconds:.1f} s"
                )
                print(line, file=sys.stderr, flush=True)
    return measured


def _run(workload: Workload, way: str, trials: int) -> float:
    """Returns the seconds of the whole process.

    Raises RuntimeError where it fails, or where a metric is missing in the store afterwards.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment.setdefault("HARNESS_DATA", str(ROOT / "data"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlruns").mkdir()
        if way in SCRIPTS:
            module = f"benchmarks.scripts.{SCRIPTS[way]}"
            command = [sys.executable, "-m", module, workload.name, str(trials)]
        else:
            command = harness_sweep.command(workload, trials, folder, FUSE[way])
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{way} on {workload.name} failed:\n{done.stdout}\n{done.stderr}")
        _require_metrics(folder, workload, way, trials)
    return seconds


def _require_metrics(folder: Path, workload: Workload, way: str, trials: int) -> None:
    """Raises RuntimeError where the store lacks part of a trial's history."""
    import sqlite3

    sign = "/" if way in FUSE else "_"
    names = [f"{split}{sign}{kind}" for split in ("train", "val", "test") for kind in MEASURES]
    marks = ",".join("?" * len(names))
    query = f"select count(*) from metrics where step > 0 and key in ({marks})"
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as store:
        (count,) = store.execute(query, names).fetchone()
    wanted = trials * workload.epochs * len(names)
    if count != wanted:
        raise RuntimeError(f"{way} on {workload.name}: {count} of {wanted} values are in the store")


MEASURES = ("loss", "accuracy")


def _report(table: TableSpec, measured: dict[str, Timings], most: int) -> Iterable[str]:
    columns = [k for k in table.columns if k <= most]
    workload = table.workload
    epochs = "1 epoch" if workload.epochs == 1 else f"{workload.epochs} epochs"
    yield f"\n{workload.dataset}, {workload.model['name']}, {epochs}: seconds, whole process"
    yield _row("way", *(f"K = {k}" for k in columns), "start-up", "ms a trial")
    yield _row("---", *("---:" for _ in columns), "---:", "---:")
    for way, timings in measured.items():
        if len(timings.seconds) < 2:
            continue
        each, start = timings.costs()
        cells = [_cell(*timings.at(k)) for k in columns]
        costs = (spread(start), spread([1000 * cost for cost in each]))
        yield _row(way, *cells, *costs)
    yield f"\n{workload.dataset}, {workload.model['name']}: times as fast is `{AUTO}`"
    yield _row("than", *(f"K = {k}" for k in columns))
    yield _row("---", *("---:" for _ in columns))
    for way, timings in measured.items():
        if way != AUTO and len(timings.seconds) > 1:
            yield _row(way, *(_ratio(timings, measured[AUTO], k) for k in columns))
    yield ""
    for target in table.targets:
        if target.trials <= most:
            gains = _gains(measured[target.way], measured[AUTO], target.trials)
            verdict = "holds" if median(gains) >= target.factor else "is missed"
            yield (
                f"{target.trials} trials, at least {target.factor:g} times {target.way}: "
                f"{spread(gains)}: {verdict}"
            )
    yield from _loss_lines(measured)


def _loss_lines(measured: dict[str, Timings]) -> Iterable[str]:
    """Says how much slower `auto` is than the better of its choices, where all three were run."""
    for trials in sorted(measured[FORCED].seconds):
        if all(trials in measured[way].seconds for way in (AUTO, OFF)):
            times = {way: median(measured[way].seconds[trials]) for way in (AUTO, OFF, FORCED)}
            better = min((OFF, FORCED), key=lambda way: times[way])
            loss = times[AUTO] / times[better] - 1
            verdict = "holds" if loss <= MAX_LOSS else "is missed"
            yield (
                f"{trials} trials, auto against the better of its choices ({better}): "
                f"{loss:+.1%}, at most {MAX_LOSS:.0%}: {verdict}"
            )


def _gains(slow: Timings, quick: Timings, trials: int) -> list[float]:
    return [a / b for a, b in zip(slow.at(trials)[0], quick.at(trials)[0], strict=True)]


def _ratio(slow: Timings, quick: Timings, trials: int) -> str:
    return _cell(_gains(slow, quick, trials), slow.at(trials)[1] and quick.at(trials)[1])


def _cell(values: Sequence[float], was_run: bool) -> str:
    return spread(values) if was_run else f"≈ {spread(values)}"


def spread(values: Iterable[float]) -> str:
    """Returns the median, and the range where there are several values."""
    ordered = sorted(values)
    digits: Callable[[float], str] = lambda x: f"{x:.3g}" if x < 1000 else f"{x:.0f}"  # noqa: E731
    if len(ordered) == 1:
        return digits(ordered[0])
    return f"{digits(median(ordered))} [{digits(ordered[0])}, {digits(ordered[-1])}]"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
