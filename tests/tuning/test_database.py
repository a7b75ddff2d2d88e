"""Several searches on one database share one budget, whichever is killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from harness.store import names
from harness.store.store import open_store
from tests.execution.servers import no_postgres, postgres
from tests.tuning.tuning_support import FILE, counted, start, write

pytestmark = pytest.mark.slow
DEADLINE = 400.0
POINTS = 15


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, project: Path) -> Iterator[str]:
    """The URL of a database of this kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{project}/studies.db"
        return
    if reason := no_postgres():
        pytest.skip(reason)
    with postgres() as found:
        yield found


@pytest.fixture
def path(project: Path) -> Path:
    return write(project, FILE.replace("trials: 4", f"trials: {POINTS}"))


def search(path: Path, url: str) -> subprocess.Popen[str]:
    return start(path, "--storage", url, "--workers", "1", "search.retrain_seeds=0")


def n_asked(url: str) -> int:
    """Returns how many points were asked for; 0 before there are tables."""
    try:
        return sum(len(study.trials) for study in studies(url))
    except Exception:  # noqa: BLE001 - whatever a driver says of tables that are being made
        return 0


def studies(url: str) -> list[optuna.Study]:
    """Returns all studies. No connection stays open: the server would soon take no more."""
    storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def wait_for(points: int, url: str, *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while n_asked(url) < points:
        assert time.monotonic() < deadline, "the searches did not get that far"
        assert all(process.poll() is None for process in processes), "a search ended early"
        time.sleep(0.1)


def end(process: subprocess.Popen[str]) -> None:
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, out


def require_exact(url: str) -> None:
    """Every study has its points, none is open, and one run stands for each trial."""
    found = studies(url)
    assert len(found) == 2
    for study in found:
        assert [t.state for t in counted(study)] == [TrialState.COMPLETE] * POINTS
        assert not [t for t in study.trials if not t.state.is_finished()]
    store = open_store()
    runs = store.client.search_runs([store.experiment("small")], max_results=5000)
    finished = [
        run.data.params["trial_id"]
        for run in runs
        if names.TAG_POINT_NUMBER in run.data.tags and run.info.status == "FINISHED"
    ]
    assert len(finished) == len(set(finished))
    asked = {i for study in found for t in counted(study) for i in t.user_attrs["trial_ids"]}
    assert set(finished) == asked


def test_two_searches_share_one_budget(path: Path, url: str) -> None:
    first = search(path, url)
    wait_for(1, url, first)
    second = search(path, url)
    for process in (first, second):
        end(process)
    require_exact(url)


def test_what_a_killed_search_had_in_hand_is_taken_over(path: Path, url: str) -> None:
    first = search(path, url)
    wait_for(3, url, first)
    second = search(path, url)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    end(second)
    require_exact(url)
