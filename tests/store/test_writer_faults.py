"""Real faults while many runs are written at once."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from harness.core.records import Outcome
from harness.store.store import Store
from harness.store.write.background import BackgroundWriter
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, children, digits, done, make_plan, runs

WRITES_A_BURST = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from tests.store.store_support import GOAL, digits, done, make_plan
from harness.store.write import background
from harness.store.write.background import BackgroundWriter
from harness.store.store import open_store
from harness.store.write.sweep_writer import SweepWriter
background.COMMIT_SECONDS = float(sys.argv[4])
plan = make_plan([digits(seed=seed) for seed in range(int(sys.argv[3]))])
store = open_store(Path(sys.argv[1]))
with SweepWriter(store, plan, GOAL) as writer:
    with BackgroundWriter(writer) as background:
        print("ready", flush=True)
        for planned in plan.trials:
            if not writer.is_finished(planned):
                for record in done():
                    background.record(planned, record)
print("all", flush=True)
"""


def burst(folder: Path, trials: int, window: float, *before: str) -> subprocess.Popen[str]:
    """Starts a process that writes trials as fast as it can."""
    arguments = [str(folder), json.dumps(sys.path), str(trials), str(window)]
    return subprocess.Popen(
        [*before, sys.executable, "-c", WRITES_A_BURST, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(store: Store) -> dict[str, int]:
    """Returns how many done runs each trial has, and checks that each run is complete."""
    found: Counter[str] = Counter()
    for run in runs(store):
        if run.data.tags["harness.kind"] != "trial":
            continue
        if run.info.status == "FINISHED":
            assert run.data.tags["harness.outcome"] == "done"
            assert {"best/val/accuracy", "final/test/accuracy"} < run.data.metrics.keys()
            assert len(run.data.params) > 5
            assert run.inputs is not None
            assert len(run.inputs.dataset_inputs) == 1
            path = Path(run.info.artifact_uri.removeprefix("file://"), "provenance.json")
            assert json.loads(path.read_text())["trial_id"] == run.data.params["trial_id"]
            history = store.client.get_metric_history(run.info.run_id, "val/accuracy")
            assert sorted(point.step for point in history) == [0, 1, 2]
            found[run.data.params["trial_id"]] += 1
        else:
            assert "harness.outcome" not in run.data.tags or run.info.status == "KILLED"
    return dict(found)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_each_trial_whole_or_to_be_run_again(
    store: Store, workspace: Path
) -> None:
    trials, dice, seen = 400, random.Random(5), set()
    for _ in range(8):
        process = burst(workspace, trials, window=dice.choice([0.0, 0.1]))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        killer = threading.Timer(dice.uniform(0.0, 0.4), process.send_signal, [signal.SIGKILL])
        killer.start()
        process.communicate(timeout=120)
        killer.cancel()
        found = finished(store)
        assert set(found.values()) <= {1}
        seen.add(len(found))
    assert len(seen) > 1, "no kill came while trials were written"
    assert burst(workspace, trials, 0.5).wait(timeout=120) == 0
    assert finished(store) == {f"{number:016x}": 1 for number in range(trials)}
    assert not [run for run in runs(store) if run.info.status == "RUNNING"]
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_database_locked_for_half_a_minute_loses_no_row(store: Store) -> None:
    plan = make_plan([digits(seed=seed) for seed in range(5)])
    assert store.database is not None
    with (
        closing(sqlite3.connect(store.database, check_same_thread=False)) as holder,
        SweepWriter(store, plan, GOAL) as writer,
        BackgroundWriter(writer) as background,
    ):
        holder.execute("BEGIN IMMEDIATE")
        opener = threading.Timer(30.0, holder.rollback)
        opener.start()
        for planned in plan.trials:
            for record in done():
                background.record(planned, record)
        assert not store.latest_runs(writer.experiment_id)
    opener.join()
    assert finished(store) == {planned.trial_id: 1 for planned in plan.trials}


@pytest.mark.slow
def test_a_full_disk_ends_the_writing_and_marks_nothing_as_complete(
    empty_database: Path, tmp_path: Path
) -> None:
    """Uses a file system in a namespace of its own, which disappears with the process."""
    small, out = tmp_path / "small", tmp_path / "out"
    small.mkdir()
    out.mkdir()
    script = (
        f'set -e; mount -t tmpfs -o size=4m none "{small}"; mkdir "{small}/mlruns"; '
        f'cp "{empty_database}" "{small}/mlruns/mlflow.db"; '
        f'code=0; "$@" || code=$?; rm -f "{small}/ballast"; cp -a "{small}/mlruns" "{out}/"; '
        "exit $code"
    )
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    process = burst(small, 2000, 0.1, *enter, "sh", "-c", script, "sh")
    told = process.communicate(timeout=300)[1]
    assert process.returncode not in (0, -9), told
    assert "full" in told or "No space left" in told
    with closing(sqlite3.connect(out / "mlruns" / "mlflow.db")) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT status, name LIKE 'sweep%', count(*) FROM runs GROUP BY 1, 2"
        counted = {(status, parent): n for status, parent, n in reader.execute(query)}
        assert counted[("RUNNING", 1)] == 1, "the sweep is not marked as complete"
        # None of them, where the first commit is already too large.
        done = counted.get(("FINISHED", 0), 0)
        assert done < 2000
        whole = reader.execute(
            "SELECT count(*) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "AND tags.key = 'harness.outcome' WHERE status = 'FINISHED'"
        ).fetchone()
        assert whole == (done,)


def test_a_trial_that_has_started_is_shown_as_running(store: Store) -> None:
    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL) as writer, BackgroundWriter(writer) as background:
        started, *others = done()
        background.record(plan.trials[0], started)
        while not children(store):
            pass
        assert children(store)["trial 0"].info.status == "RUNNING"
        for record in others:
            background.record(plan.trials[0], record)
    assert store.latest_runs(store.experiment("test"))["0" * 16].outcome is Outcome.DONE
