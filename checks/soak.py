"""`python -m checks.soak`: a long sweep of short trials, killed every few seconds until it is done.

At the end, every trial must be done once, every value be stored once, and nothing be left over.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness.cli.flags import SOME_FAILED
from harness.execution.executors.worker_start import YOUNG_SECONDS

ROOT = Path(__file__).resolve().parents[1]
FILE = """\
name: soak
trial: {{dataset: iris, model: perceptron, epochs: {epochs}, batch_size: 64}}
grid:
  optimizer: [sgd, adam]
  lr: [0.01, 0.1]
  seed: {seeds}
artifacts: none
"""
POLL_SECONDS = 0.2
QUIET_SECONDS = 15.0
"""How long killed processes may take to disappear."""
MEMORY = Path("/dev/shm")


@dataclass
class Life:
    """One process from its start to its end.

    before: how many runs had finished when it started.
    sizes: how many had finished, and the process's resident bytes, over time.
    """

    before: int
    sizes: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Soak:
    """A sweep in `folder` that is killed about every `every` seconds of training."""

    folder: Path
    trials: int
    epochs: int
    every: float
    arguments: Sequence[str]
    generator: random.Random
    kills: dict[str, int] = field(default_factory=lambda: {"parent": 0, "worker": 0})
    lives: list[Life] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    # A path of its own, because the path of a socket in it must not exceed 107 characters.
    temporary: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="soak-")))

    def prepare(self) -> None:
        (self.folder / "mlruns").mkdir(parents=True)
        seeds = list(range(self.trials // 4))
        content = FILE.format(epochs=self.epochs, seeds=seeds)
        (self.folder / "soak.yaml").write_text(content)

    def run(self) -> int:
        """Starts the sweep until it ends by itself. Returns its exit code."""
        while True:
            process = self._start()
            code = self._follow(process)
            if code != -signal.SIGKILL and (code != SOME_FAILED or self._is_whole()):
                return code

    def _is_whole(self) -> bool:
        """Whether no trial is left to retry; a trial whose worker was killed has failed."""
        return len(self.by_trial()) == self.trials

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        command = [sys.executable, "-m", "harness.sweep", "soak.yaml", "--no-compare"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *self.arguments],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.sessions.add(process.pid)
        self.lives.append(Life(self.done()))
        return process

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        """Watches a process, and kills it or one of its workers after some seconds of training."""
        life, parent = self.lives[-1], psutil.Process(process.pid)
        due: float | None = None
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            done = self.done()
            with suppress(psutil.NoSuchProcess):
                if done > life.before:
                    life.sizes.append((done, parent.memory_info().rss))
            if done == life.before:
                continue
            if due is None:
                due = time.monotonic() + self.generator.uniform(0, 2 * self.every)
            elif time.monotonic() >= due:
                self._kill(process)
                due = time.monotonic() + self.generator.uniform(0, 2 * self.every)
        return process.wait()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kills the parent, or one of its workers."""
        workers = [pid for pid in processes_of(process.pid) if is_worker(pid)]
        victim, what = process.pid, "parent"
        if workers and self.generator.random() < 0.5:
            victim, what = self.generator.choice(workers), "worker"
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.kills[what] += what == "worker" or process.wait() == -signal.SIGKILL

    def done(self) -> int:
        """Counts the finished runs, including the sweeps' own. It is called often, and cheap."""
        return sum(count for _, count in self.query(_FINISHED))

    def by_trial(self) -> list[int]:
        """Counts the current finished runs of each trial that has one."""
        return [count for _, count in self.query(_BY_TRIAL)]

    def query(self, text: str) -> list[tuple[object, int]]:
        database = self.folder / "mlruns" / "mlflow.db"
        if not database.is_file():
            return []
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=60)) as db:
            try:
                return list(db.execute(text))
            except sqlite3.OperationalError:  # Its tables are being created.
                return []

    def faults(self) -> list[str]:
        """Returns a sentence for each fault."""
        counts = self.by_trial()
        values = self.query(_VALUES)
        running = self.query("SELECT 'running', COUNT(*) FROM runs WHERE status = 'RUNNING'")
        counts_by_fault = {
            "trials lost": self.trials - len(counts),
            "trials with several finished runs": sum(count > 1 for count in counts),
            "values written twice": self.query(_TWICE)[0][1],
            "runs with too few or too many values": sum(n for _, n in values)
            - max((n for _, n in values), default=0),
            "runs left RUNNING": running[0][1],
            "processes left": len(self._left()),
            "folders of shared data and temporary files left": len(self.leftovers()),
            "folders left of runs that were never written": len(self._unwritten()),
            "half-written files left": len(list((self.folder / "mlruns").rglob("*.partial"))),
            "trials left in the outbox": len(list((self.folder / "mlruns").rglob("*.trial"))),
        }
        return [f"{count} {what}" for what, count in counts_by_fault.items() if count]

    def _unwritten(self) -> set[str]:
        known = {str(run_id) for run_id, _ in self.query("SELECT run_uuid, 1 FROM runs")}
        folders = (self.folder / "mlruns" / "artifacts").glob("*")
        return {path.name for path in folders} - known

    def _left(self) -> list[int]:
        deadline = time.monotonic() + QUIET_SECONDS
        while (left := [pid for one in self.sessions for pid in processes_of(one)]) and (
            time.monotonic() < deadline
        ):
            time.sleep(POLL_SECONDS)
        return left

    def leftovers(self) -> list[Path]:
        """Returns what killed processes left in memory and among temporary files."""
        return [*self._shared(), *self._temporary()]

    def _temporary(self) -> list[Path]:
        """Returns the temporary files, except torch's cache, which all processes share."""
        paths = self.temporary.iterdir()
        return [path for path in paths if not path.name.startswith("torchinductor_")]

    def _shared(self) -> list[Path]:
        """Returns the folders of shared data in memory that this soak's processes left."""
        began = (self.folder / "soak.yaml").stat().st_mtime
        folders = MEMORY.glob("harness-data-*")
        return [path for path in folders if path.stat().st_mtime >= began and _is_orphan(path)]

    def longest(self) -> Life:
        """Returns the life in which most trials were done."""
        return max(self.lives, key=lambda life: len({done for done, _ in life.sizes}))


def processes_of(session: int) -> list[int]:
    """Returns the live processes of a session."""
    pids = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            if os.getsid(pid) == session and psutil.Process(pid).status() != "zombie":
                pids.append(pid)
    return pids


def is_worker(pid: int) -> bool:
    """Whether a process was forked from a fork server, whose command line it then has."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        parent = process.parent()
        return (
            parent is not None
            and "forkserver" in " ".join(process.cmdline())
            and parent.cmdline() == process.cmdline()
        )
    return False


def _is_orphan(folder: Path) -> bool:
    from harness.core.files import try_lock

    if not (folder / "owner").is_file():
        return False
    lock = try_lock(folder / "owner")
    if lock is not None:
        lock.release()
    return lock is not None


_FINISHED = "SELECT 'done', COUNT(*) FROM runs WHERE status = 'FINISHED'"
_COUNTED = """
runs JOIN tags kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'harness.kind'
AND kind.value = 'trial' AND runs.status = 'FINISHED'
LEFT JOIN tags gone ON gone.run_uuid = runs.run_uuid AND gone.key = 'harness.superseded'
"""
_BY_TRIAL = f"""
SELECT trial.value, COUNT(*) FROM {_COUNTED}
JOIN params trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'trial_id'
WHERE gone.key IS NULL GROUP BY trial.value
"""
_TWICE = """
SELECT 'twice', COUNT(*) FROM
(SELECT 1 FROM metrics GROUP BY run_uuid, key, step HAVING COUNT(*) > 1)
"""
# A ROC curve that is not defined has no area.
_VALUES = f"""
SELECT held, COUNT(*) FROM (
    SELECT COUNT(metrics.key) AS held FROM {_COUNTED}
    LEFT JOIN metrics ON metrics.run_uuid = runs.run_uuid AND metrics.key NOT LIKE '%roc_auc'
    WHERE gone.key IS NULL GROUP BY runs.run_uuid
) GROUP BY held
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checks.soak", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="a multiple of 4")
    parser.add_argument("--epochs", type=int, default=1, help="of each trial")
    parser.add_argument("--every", type=float, default=5.0, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--keep", type=Path, help="run in this folder, and leave it")
    parser.add_argument("--workers", default="2", help="of the sweep")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Soaks, and prints the figures. Returns 1 where it finds a fault."""
    arguments = parser().parse_args(argv)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(
        folder,
        arguments.trials,
        arguments.epochs,
        arguments.every,
        ["--workers", arguments.workers, "--executor", "process", "--retry-failed"],
        random.Random(arguments.seed),
    )
    soak.prepare()
    began = time.monotonic()
    code = soak.run()
    seconds = time.monotonic() - began
    _clear_away(soak)
    faults = soak.faults() + ([f"exit code {code}"] if code else [])
    faults += [] if code == 0 and _is_well(folder) else ["the doctor finds something wrong"]
    _print_figures(soak, seconds)
    for fault in faults:
        print(f"wrong: {fault}")
    if faults:
        print(f"left for inspection: {folder}")
    else:
        print("left        no process, temporary file, shared memory or file of an unwritten run")
        for folder_to_remove in (soak.temporary, *(() if arguments.keep else (folder,))):
            shutil.rmtree(folder_to_remove)
    return 1 if faults else 0


def _clear_away(soak: Soak) -> None:
    """Removes, as the next sweep would, what was left by sweeps killed with all their workers."""
    if not soak.leftovers():
        return
    time.sleep(YOUNG_SECONDS)  # A younger folder may belong to a process that has just started.
    code = (
        "from harness.execution.executors.worker_start import SharedFolder as S; S.make().remove()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(soak.temporary)}
    subprocess.run([sys.executable, "-c", code], cwd=soak.folder, env=environment)


def _is_well(folder: Path) -> bool:
    command = [sys.executable, "-m", "harness.doctor", "--only", "store"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment).returncode == 0


def _print_figures(soak: Soak, seconds: float) -> None:
    counts = soak.by_trial()
    kills = ", ".join(f"{count} of a {what}" for what, count in soak.kills.items())
    print(f"trials      {soak.trials}, {seconds:.0f} s, {soak.trials / seconds:.1f} a second")
    print(f"kills       {sum(soak.kills.values())} ({kills}), {len(soak.lives)} starts")
    print(f"lost        {soak.trials - len(counts)}")
    print(f"duplicated  {sum(count > 1 for count in counts)}")
    sizes = soak.longest().sizes
    if sizes:
        (first, start), (last, end) = sizes[0], sizes[-1]
        print(
            f"memory      {start / 2**20:.0f} MiB at the start, {end / 2**20:.0f} MiB at the end "
            f"of the longest life ({last - first} trials)"
        )


if __name__ == "__main__":
    sys.exit(main())
