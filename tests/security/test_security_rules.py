"""What strangers may write (files, names, addresses, weights) is data: it never runs, never leads
out of a folder, and never carries a secret into the store."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import predict, search, sweep
from harness.core.errors import InputError, StoreError
from harness.experiment.loading import load
from harness.store.artifacts.best_trials import PendingOutputs
from harness.store.names import PARAM_TRIAL
from harness.store.read.run_details import fetch_weights
from harness.store.store import Store
from harness.store.write.outbox import Outbox
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, digits, done, make_plan

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2"
FILE = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 1}
artifacts: none
"""


class Payload:
    """Where it is unpickled, a folder appears."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def armed(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2), "extra": Payload(mark)}, buffer)
    return buffer.getvalue()


def test_the_payload_is_live(mark: Path) -> None:
    """Else the tests below could not fail."""
    torch.load(io.BytesIO(armed(mark)), weights_only=False)
    assert mark.is_dir()


def test_weights_of_a_run_that_hold_code_are_refused(
    workspace: Path, store: Store, mark: Path
) -> None:
    """With the checksum of the armed file beside it, as whoever put it there would have."""
    run_id = one_run(store)
    folder = workspace / "weights"
    folder.mkdir()
    (folder / "state_dict.pt").write_bytes(armed(mark))
    told = hashlib.sha256(armed(mark)).hexdigest()
    (folder / "state_dict.pt.sha256").write_text(f"{told}  state_dict.pt\n")
    store.client.log_artifacts(run_id, str(folder), "weights")
    with pytest.raises(StoreError, match="cannot be read"):
        fetch_weights(store, run_id)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["outbox", "spool"])
def test_files_that_wait_for_the_store_and_hold_code_are_refused(
    tmp_path: Path, mark: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = armed(mark)
    sealed = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
    if kind == "outbox":
        (tmp_path / "00ff.trial").write_bytes(sealed)
        found: object = Outbox(tmp_path).load("00ff")
    else:
        (tmp_path / "00ff.run1.pt").write_bytes(sealed)
        found = PendingOutputs(tmp_path).load("00ff", "run1")
    assert found is None
    assert "is damaged" in caplog.text
    assert not mark.exists()


def test_torch_is_never_asked_to_unpickle() -> None:
    for path in (ROOT / "harness").rglob("*.py"):
        for call in re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", path.read_text()):
            assert "weights_only=True" in call, f"{path}: {call}"


def bomb() -> str:
    """Some 10^15 values, were it expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 15)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        FILE + "description: !!python/object/apply:os.mkdir [it-ran]\n",
        FILE + "description: !!python/name:os.system\n",
        bomb() + FILE,
        "[" * 1_000_000,
        FILE + "description: " + "x" * 20_000_000 + "\n",
    ],
    ids=["apply", "name", "bomb", "deep", "huge"],
)
@pytest.mark.parametrize("command", [sweep, search], ids=["sweep", "search"])
def test_a_file_that_attacks_its_reader_is_refused_soon(
    workspace: Path, text: str, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "x.yaml").write_text(text)
    began = time.process_time()
    assert command.main(["x.yaml"]) == 2
    assert time.process_time() - began < 60, "expanded, it would take for ever"
    told = capsys.readouterr().err
    assert "x.yaml" in told
    assert "Traceback" not in told
    assert not list(workspace.rglob("it-ran"))
    assert not list((workspace / "mlruns").iterdir())


UPWARD = ("../up", "..", "a/../../up", "/tmp/up", "C:\\up", "up\x00", ".hidden", "~/up", "")


@pytest.mark.parametrize("name", UPWARD[:-1])
def test_an_experiment_s_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    """Journals and folders are named after it."""
    path = tmp_path / "x.yaml"
    path.write_text(FILE)
    with pytest.raises(InputError, match="name"):
        load(path, [f"name={name!r}"])


@pytest.mark.parametrize("stem", ["..", "..x", "~", "<script>alert(1)</script>"[:8]])
def test_a_name_taken_from_the_file_s_is_held_to_the_same(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.yaml"
    path.write_text(FILE.replace("name: small\n", ""))
    with pytest.raises(InputError, match="name"):
        load(path)


@pytest.mark.parametrize("identity", UPWARD)
def test_ids_never_lead_out_of_a_folder(tmp_path: Path, store: Store, identity: str) -> None:
    with pytest.raises(ValueError, match="not a trial's"):
        Outbox(tmp_path)._path(identity)
    with pytest.raises(ValueError, match="not a trial's"):
        PendingOutputs(tmp_path)._path(identity, "run1")
    with pytest.raises(ValueError, match="not a trial's"):
        store.latest_run("1", identity)


def test_a_reference_to_a_run_is_never_a_path_nor_a_query(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    one_run(store)
    for reference in ("../../etc/passwd", "' OR 1=1", "%", "_", "a%' --"):
        assert predict.main([reference]) == 2
        assert "Traceback" not in capsys.readouterr().err


def one_run(store: Store) -> str:
    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL) as writer:
        for record in done():
            run = writer.record(plan.trials[0], record)
    return run.run_id


ADDRESSES = (
    f"http://bob:{SECRET}@127.0.0.1:9",
    f"postgresql://bob:{SECRET}@127.0.0.1:9/db",
    f"postgresql://127.0.0.1:9/db?user=bob&password={SECRET}",
    f"mysql+pymysql://bob:{SECRET}@127.0.0.1:9/db",
    f"gopher://bob:{SECRET}@127.0.0.1:9/db",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_message_about_a_store_tells_its_password(
    workspace: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (workspace / "small.yaml").write_text(FILE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert sweep.main(["small.yaml"]) == 2
    out, told = capfd.readouterr()
    assert "127.0.0.1:9" in told
    assert SECRET not in out + told
    assert "Traceback" not in told


def test_passwords_in_an_experiment_file_stay_out_of_the_store(
    workspace: Path, store: Store
) -> None:
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    content = FILE + f"# mirror: https://bob:{SECRET}@host/x\n"
    (workspace / "small.yaml").write_text(FILE)
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    for arguments in (["add", "small.yaml"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *identity, *arguments], cwd=workspace, check=True)
    (workspace / "small.yaml").write_text(content)
    assert sweep.main(["small.yaml", "--executor", "inline", "--no-compare"]) == 0
    stored = list((workspace / "mlruns").rglob("*"))
    assert {"git.diff", "experiment.yaml"} <= {path.name for path in stored}
    for path in stored:
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_servers_listen_to_this_machine_alone() -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "ui"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "--host 127.0.0.1" in recipe
    for path in (*(ROOT / "harness").rglob("*"), ROOT / "Makefile"):
        if path.suffix in ("", ".py", ".js", ".j2") and path.is_file():
            assert "0.0.0.0" not in path.read_text(), path


def test_a_weights_file_is_no_way_to_fill_the_disk_or_leave_a_folder(tmp_path: Path) -> None:
    """A zip within which names lead upward is read in memory, and nothing is unpacked."""
    path = tmp_path / "inner" / "00ff.run1.pt"
    path.parent.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../up", "x")
    data = buffer.getvalue()
    path.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    assert PendingOutputs(path.parent).load("00ff", "run1") is None
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["00ff.run1.pt"]


def test_trial_ids_in_the_store_may_be_anything(workspace: Path, store: Store) -> None:
    """Whoever can write to a server can write any param; readers show it and go on."""
    from harness.store.read.results import read_results

    run_id = one_run(store)
    tags = store.client.get_run(run_id).data.tags | {"mlflow.runName": "<script>\x1b[2J"}
    other = store.client.create_run(store.experiment("test"), tags=tags)
    store.client.log_param(other.info.run_id, PARAM_TRIAL, "../../up")
    assert len(read_results(store, "test").trials) == 2
    assert "../../up" in store.latest_runs(store.experiment("test"))
