"""Searches whose processes are killed: their studies stay correct."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from harness.store import names
from harness.store.store import open_store
from tests.tuning.tuning_support import FILE, counted, journal_of, run, start, stored, write

DEADLINE = 400.0
BUSY_AFTER = 0.3
"""Seconds from its start after which a worker trains for sure."""


def kill_after_some_writes(process: subprocess.Popen[str], project: Path, delay: float) -> bool:
    """Kills a search `delay` seconds after its journal grew. Returns False where it had ended."""

    def size() -> int:
        journal = journal_of(project)
        return journal.stat().st_size if journal.is_file() else 0

    before = size()
    deadline = time.monotonic() + DEADLINE
    while size() == before:
        assert time.monotonic() < deadline, "the search never began"
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    time.sleep(delay)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def points(study: optuna.Study) -> list[tuple[tuple[str, float], ...]]:
    """Returns the params of the points that count."""
    return sorted(tuple(sorted(trial.params.items())) for trial in counted(study))


def runs_of_points() -> list[str]:
    """Returns the trial ids of the studies' runs that no later run replaces."""
    store = open_store()
    found = store.client.search_runs([store.experiment("small")], max_results=5000)
    return [
        run.data.params["trial_id"]
        for run in found
        if f"{names.TAG_SEARCH_PREFIX}number" in run.data.tags
        and names.TAG_SUPERSEDED not in run.data.tags
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_killed_ten_times_ends_as_if_it_had_not_been(
    project: Path, tmp_path_factory: pytest.TempPathFactory, workers: int
) -> None:
    content = FILE.replace("trials: 4", "trials: 40").replace(
        "retrain_seeds: 2", "retrain_seeds: 0"
    )
    path = write(project, content)
    chance = random.Random(workers)
    kills = 0
    for _ in range(30):
        process = start(path, "--workers", str(workers))
        kills += kill_after_some_writes(process, project, chance.uniform(0, 0.12))
        if kills == 10:
            break
    assert kills == 10, "the search ended before it was killed ten times"
    last = start(path, "--workers", str(workers))
    out, _ = last.communicate(timeout=DEADLINE * 2)
    assert last.returncode == 0, out
    studies = stored(project)
    for study in studies.values():
        assert [t.state for t in counted(study)] == [TrialState.COMPLETE] * 40
        found = points(study)
        assert len(set(found)) == len(found), "no point twice"
        lost = [t.number for t in study.trials if "uncounted" in t.user_attrs]
        again = [t.user_attrs["retry_of"] for t in study.trials if "retry_of" in t.user_attrs]
        assert sorted(again) == [n for n in lost if n in set(again)], "each lost point once"
        assert not [t for t in study.trials if not t.state.is_finished()]
    ids = runs_of_points()
    assert len(ids) == len(set(ids)) == 80, "one run stands for each point"
    if workers == 1:
        undisturbed = tmp_path_factory.mktemp("undisturbed")
        (undisturbed / "mlruns").mkdir()
        (undisturbed / "experiments").mkdir()
        reference = start(write(undisturbed, content), "--workers", "1")
        out, _ = reference.communicate(timeout=DEADLINE * 2)
        assert reference.returncode == 0, out
        for label, study in stored(undisturbed).items():
            assert points(study) == points(studies[label])


@pytest.mark.slow
def test_a_point_whose_worker_is_killed_is_queued_again(project: Path) -> None:
    content = FILE.replace("trials: 4", "trials: 3").replace("[sgd, momentum]", "[momentum]")
    content = content.replace("retrain_seeds: 2", "retrain_seeds: 0").replace(
        "epochs: 2", "epochs: 400"
    )
    process = start(write(project, content), "--executor", "process", "--workers", "1")
    deadline = time.monotonic() + DEADLINE
    killed = False
    while not killed and time.monotonic() < deadline and process.poll() is None:
        for worker in _workers(process.pid) if _is_training(project) else ():
            with suppress(psutil.NoSuchProcess):
                if time.time() - worker.create_time() > BUSY_AFTER:
                    worker.kill()
                    killed = True
        time.sleep(0.01)
    out, _ = process.communicate(timeout=DEADLINE)
    assert killed, out
    assert process.returncode == 0, out
    study = stored(project)["momentum"]
    assert [t.state for t in counted(study)] == [TrialState.COMPLETE] * 3
    (lost,) = (t for t in study.trials if "uncounted" in t.user_attrs)
    assert lost.state is TrialState.FAIL
    assert "died" in lost.user_attrs["uncounted"]
    (again,) = (t for t in study.trials if "retry_of" in t.user_attrs)
    assert again.user_attrs["retry_of"] == lost.number
    assert again.params == lost.params


def _workers(pid: int) -> list[psutil.Process]:
    """The worker processes of a search: forked by a server that is its child."""
    try:
        children = psutil.Process(pid).children()
        servers = [child for child in children if "forkserver" in " ".join(child.cmdline())]
        return [worker for server in servers for worker in server.children()]
    except psutil.NoSuchProcess:
        return []


def _is_training(project: Path) -> bool:
    """Whether a point has been asked for."""
    journal = journal_of(project)
    return journal.is_file() and b"trial_ids" in journal.read_bytes()


@pytest.mark.usefixtures("no_figures")
def test_points_lost_between_two_writes_are_tried_again(project: Path) -> None:
    """Each prefix of the journal is a state in which a kill may have left it."""
    content = FILE.replace("[sgd, momentum]", "[momentum]").replace("epochs: 2", "epochs: 1")
    path = write(project, content.replace("trials: 4", "trials: 3"))
    assert run(path, "search.retrain_seeds=0") == 0
    expected = points(stored(project)["momentum"])
    journal = journal_of(project)
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in random.Random(0).sample(range(1, len(lines)), 5):
        journal.write_bytes(b"".join(lines[:kept]))
        assert run(path, "search.retrain_seeds=0") == 0
        study = stored(project)["momentum"]
        assert points(study) == expected, f"killed after line {kept}"
        assert not [t for t in study.trials if not t.state.is_finished()]
    ids = runs_of_points()
    assert len(ids) == len(set(ids)) == 3, "what the store has is never trained again"
