from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from harness.core.records import Ended, Outcome, Started
from harness.core.seeding import stream_seed
from harness.store import provenance as provenance_module
from harness.store.coordination.processes import is_dead, process_tag
from harness.store.provenance import (
    ENVIRONMENT,
    GitState,
    checkout_state,
    git_state,
    process_provenance,
    utc,
)
from harness.store.store import Store
from harness.store.write.inputs import ParamTable
from tests.store.store_support import children, digits, done, failed, make_plan, runs, write


def provenance(store: Store, run_id: str) -> dict[str, object]:
    path = store.client.download_artifacts(run_id, "provenance.json")
    found: dict[str, object] = json.loads(Path(path).read_text())
    return found


def test_a_run_says_where_its_numbers_come_from(store: Store) -> None:
    plan = make_plan([digits(seed=7)])
    write(store, plan, {0: [Started({"threads": 2}), *done()[1:]]})
    run = children(store)["trial 0"]
    found = provenance(store, run.info.run_id)
    assert found["trial"] == plan.trials[0].trial.resolved()
    assert found["streams"]["order/1"] == stream_seed(7, "order", 1)  # type: ignore[index]
    assert "<seed>/<stream>" in str(found["streams_rule"])
    assert found["facts"] == {"threads": 2}
    assert found["outcome"] == "done"
    assert found["sampler"] == {}
    assert found["packages"].keys() >= {"torch", "mlflow", "numpy"}  # type: ignore[attr-defined]
    assert found["cpu"]["model"]  # type: ignore[index]
    assert len(str(found["dataset_sha256"])) == 64
    assert found["start"] == utc(run.info.start_time)
    assert found["end"] == utc(run.info.end_time)
    assert 0 <= found["seconds"] < 60  # type: ignore[operator]


def test_the_parent_lists_every_package(store: Store) -> None:
    writer = write(store, make_plan([digits()]), {0: [failed()]})
    packages = provenance(store, writer.run_id)["packages"]
    assert packages.keys() > {"torch", "pip", "pytest"}  # type: ignore[attr-defined]


def test_a_search_is_recorded(store: Store) -> None:
    from harness.store.write.sweep_writer import SweepWriter
    from tests.store.store_support import GOAL

    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL, studies={"mlp": 20}) as writer:
        search = {"study": "mlp", "sampler": "TPE", "number": 3}
        parent_id = writer.parent("mlp").run_id
        writer.record(plan.trials[0], failed(), search=search)
    parent, child = runs(store)
    assert parent.info.run_id == parent_id
    assert provenance(store, child.info.run_id)["sampler"] == search
    assert parent.data.tags["harness.kind"] == "study"
    assert parent.info.run_name.endswith("(20 trials)")


def test_no_secret_is_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("HARNESS_DATA", "s3://bob:hunter2@bucket")
    monkeypatch.setattr("sys.argv", ["sweep.py", "uri=http://bob:hunter2@host/"])
    process_provenance.cache_clear()
    trial = digits()
    try:
        reason = "cannot reach http://bob:hunter2@host/"
        ended = Ended(Outcome.FAILED, {}, reason, f"Traceback\n{reason}")
        writer = write(store, make_plan([trial]), {0: [ended]})
    finally:
        process_provenance.cache_clear()
    run = children(store)["trial 0"]
    for run_id in (run.info.run_id, writer.run_id):
        stored = store.client.get_run(run_id)
        folder = Path(store.client.download_artifacts(run_id, ""))
        texts = [path.read_text() for path in folder.rglob("*.json")]
        texts += [path.read_text() for path in folder.rglob("traceback.txt")]
        assert "hunter2" not in "".join([*texts, *stored.data.tags.values()])
    assert "AWS_SECRET_ACCESS_KEY" not in ENVIRONMENT
    assert run.data.tags["harness.reason"] == "cannot reach http://***@host/"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    git("init", "-q", "-b", "trunk")
    (tmp_path / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-q", "-m", "first")
    return tmp_path


def test_git_state_of_a_clean_tree(repository: Path) -> None:
    state = git_state(repository)
    assert len(state.commit) == 40
    assert (state.branch, state.dirty, state.diff) == ("trunk", False, "")


def test_git_state_of_a_dirty_tree(repository: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    (repository / "new.txt").write_text("untracked\n")
    state = git_state(repository)
    assert state.dirty
    assert state.changed == (" M a.txt", "?? new.txt")
    assert "-one\n+two" in state.diff
    assert "untracked" not in state.diff


def test_a_large_diff_is_cut(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance_module, "DIFF_BYTES", 100)
    (repository / "a.txt").write_text("ü\n" * 1000)
    state = git_state(repository)
    assert len(state.diff.encode()) in (99, 100)  # never half a character
    assert state.truncated
    assert state.metadata()["diff_truncated"] is True


def test_git_state_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path).commit == ""
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert git_state(tmp_path).commit == ""


def test_an_installed_harness_has_no_checkout(repository: Path) -> None:
    (repository / "site-packages").mkdir()
    assert checkout_state(repository / "site-packages") == GitState()
    assert checkout_state(repository) == git_state(repository)


def test_both_repositories_are_recorded(store: Store, repository: Path) -> None:
    """The sweep runs from elsewhere than its experiment's repository."""
    (repository / "a.txt").write_text("two\n")
    path = repository / "grid.yaml"
    path.write_text("name: grid\n")
    plan = make_plan([digits()], path=path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(provenance_module.__file__).parent)
        writer = write(store, plan, {0: done()})
    own = git_state(repository).commit
    harness = checkout_state(Path(provenance_module.__file__).parents[2]).commit
    for run in runs(store):
        found = provenance(store, run.info.run_id)
        assert run.data.tags["mlflow.source.git.commit"] == own == found["git"]["commit"]  # type: ignore[index]
        assert run.data.tags.get("harness.git_commit", "") == harness
        assert found["harness_git"]["commit"] == harness  # type: ignore[index]
        assert own != harness
    diff = store.client.download_artifacts(writer.run_id, "git.diff")
    assert "-one\n+two" in Path(diff).read_text()


def altered(**fields: object) -> str:
    return json.dumps(json.loads(process_tag()) | fields)


def test_a_live_process_is_not_dead() -> None:
    assert not is_dead(process_tag())
    assert json.loads(process_tag())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("tag", "dead"),
    [
        (altered(host="another"), False),  # nothing can be known of it from here
        (altered(host="another", boot="x"), False),
        (altered(boot="an earlier one"), True),
        (altered(born="1"), True),  # the number was given again to another process
        (altered(pid=2**22 + 1), True),
        ("", False),
        ("[]", False),
        ('{"host": 1}', False),
    ],
    ids=["host", "host and boot", "boot", "born", "pid", "none", "list", "wrong type"],
)
def test_a_process_is_dead_only_if_that_is_certain(tag: str, dead: bool) -> None:
    assert not psutil.pid_exists(2**22 + 1)
    assert is_dead(tag) is dead


def test_params_of_a_trial_outside_the_plan() -> None:
    """A search proposes trials that no plan lists."""
    plan = make_plan([digits()])
    other = make_plan([digits(optimizer={"name": "adam", "eps": 1e-6})]).trials[0]
    assert ParamTable(plan).of(other).keys() == ParamTable(plan).of(plan.trials[0]).keys()


def test_a_choice_counts_options_against_its_own_defaults() -> None:
    keys = ParamTable(make_plan([digits(), digits(optimizer="adamw")])).keys
    assert "optimizer" in keys
    assert not [key for key in keys if key.startswith("optimizer.")]
    assert "model.hidden" in keys  # the trial's 16 is not the default
