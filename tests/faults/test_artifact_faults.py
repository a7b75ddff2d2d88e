"""Files of a run that cannot be stored, for a while or for ever: a file lies where their folder
should be, which stops even root."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core.errors import StoreUnreachable
from harness.store import retry
from harness.store.store import Store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, children, digits, done, make_plan


@pytest.fixture
def blocked(store: Store, workspace: Path) -> Path:
    """The file in the way. The parent run's own files are stored before."""
    return workspace / "mlruns" / "artifacts"


def is_complete(store: Store) -> bool:
    found = children(store).get("trial 0")
    ended = [one.outcome for one in store.latest_runs(store.experiment("test")).values()]
    return bool(ended and ended[0]) or (found is not None and found.info.status == "FINISHED")


def write(store: Store, blocked: Path) -> None:
    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL) as writer:
        blocked.rename(blocked.with_name("aside"))
        blocked.touch()
        for record in done():
            writer.record(plan.trials[0], record)


def mend(blocked: Path) -> None:
    blocked.unlink()
    blocked.with_name("aside").rename(blocked)


def test_a_file_is_stored_again_and_the_run_is_not_complete_before(
    store: Store, blocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def pause(seconds: float) -> None:
        seen.append(is_complete(store))
        if len(seen) == 2:
            mend(blocked)

    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=pause))
    write(store, blocked)
    assert seen == [False, False]
    assert is_complete(store)
    run_id = children(store)["trial 0"].info.run_id
    assert "provenance.json" in {file.path for file in store.client.list_artifacts(run_id)}


def test_a_run_whose_files_cannot_be_stored_is_never_complete(
    store: Store, blocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.0,))
    with pytest.raises(StoreUnreachable, match="cannot store a run's files"):
        write(store, blocked)
    assert not is_complete(store)
    parents = store.client.search_runs([store.experiment("test")], "tags.`harness.kind` = 'sweep'")
    assert parents[0].info.status != "FINISHED"
