"""Real faults of checkpoint files: a killed writer, a truncated file, a flipped bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.core.files import DamagedFile, load_checksummed, write_checksummed
from harness.core.records import Ended, Outcome, Started
from harness.execution import experiment_checkpoints
from harness.execution.checkpoint_folder import CheckpointFolder, Position, TrainingLog
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.run_task import run
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint
from tests.resume_support import (
    comparable,
    metadata_of,
    planned,
    task,
    train_until,
    uninterrupted_records,
)
from tests.support import make_trial

DROPOUT = {"name": "mlp", "hidden": [16], "dropout": 0.3}


def small_trial(**fields: object) -> Trial:
    return make_trial(
        **{"batch_size": 256, "epochs": 4, "model": DROPOUT, "log_every": 2, **fields}
    )


@pytest.fixture
def checkpoints(tmp_path: Path) -> ExperimentCheckpoints:
    return ExperimentCheckpoints(tmp_path / "room", every=0)


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_resumes_from_the_last_checkpoint_and_yields_all_records(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    trial = small_trial()
    folder = train_until(trial, data_root, checkpoints, epochs=2)
    assert names(folder) == ["000001-000000005.pt", "000001-000000006.pt"]
    records = list(run(task(trial, data_root, checkpoints)))
    assert comparable(records) == comparable(uninterrupted_records(trial, data_root))
    assert metadata_of(records[0])["resumed"] == 1
    assert metadata_of(records[0])["resumed_after"] == "1 epochs and 6 batches"
    again = list(run(task(trial, data_root, checkpoints)))
    assert comparable(again) == comparable(records), "after its last epoch too"
    assert metadata_of(again[0])["resumed"] == 2


@pytest.mark.parametrize("fault", ["cut", "empty", "flipped", "pickle"])
def test_a_bad_file_is_set_aside_and_the_one_before_is_used(
    fault: str,
    checkpoints: ExperimentCheckpoints,
    data_root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trial = small_trial()
    folder = train_until(trial, data_root, checkpoints, epochs=2)
    _, last = sorted(folder.path.iterdir())
    spoil(last, fault)
    records = list(run(task(trial, data_root, checkpoints)))
    assert comparable(records) == comparable(uninterrupted_records(trial, data_root))
    assert metadata_of(records[0])["resumed_after"] == "1 epochs and 5 batches"
    assert last.with_name(last.name + ".damaged").is_file()
    assert f"checkpoint {last} is not used" in caplog.text
    assert "restarted" not in metadata_of(records[0])


def test_where_all_are_bad_the_trial_starts_again_and_says_so(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    trial = small_trial()
    folder = train_until(trial, data_root, checkpoints, epochs=2)
    for path, fault in zip(list(folder.path.iterdir()), ("cut", "flipped"), strict=True):
        spoil(path, fault)
    started, *rest = records = list(run(task(trial, data_root, checkpoints)))
    assert comparable(records) == comparable(uninterrupted_records(trial, data_root))
    assert "none of its checkpoints could be used: 000001-" in metadata_of(started)["restarted"]
    assert "resumed" not in metadata_of(started)
    ended = rest[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.DONE
    assert folder.latest_position() == Position(4, 0), (
        "new ones are written in spite of the bad ones"
    )


def spoil(path: Path, fault: str) -> None:
    content = bytearray(path.read_bytes())
    if fault == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "pickle":  # what torch alone would load and run
        torch.save({"state": os.getcwd}, path)
    else:
        # In the middle of a tensor: torch alone loads it and says nothing.
        found = content.rfind(b"PK\x03\x04", 0, len(content) // 2)
        content[found + 200] ^= 1
        path.write_bytes(content)


def test_every_byte_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_checksummed(path, {"weights": torch.arange(50.0)})
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        with pytest.raises(DamagedFile):
            load_checksummed(path)
    for length in range(0, len(content), 20):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFile):
            load_checksummed(path)


def test_nobodys_code_is_run(tmp_path: Path) -> None:
    """Not even if the checksum is right."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    write_checksummed(tmp_path / "a.pt", {"state": Evil()})
    with pytest.raises(DamagedFile, match="cannot read"):
        load_checksummed(tmp_path / "a.pt")
    assert not (tmp_path / "owned").exists()


KILLER = """
import os, random, signal, sys, time, torch
from pathlib import Path
from harness.execution.checkpoint_folder import CheckpointFolder, TrainingLog
from harness.training.checkpoint import Checkpoint
folder, chance, torn = CheckpointFolder(Path(sys.argv[1])), random.Random(0), 0

def write_for_ever(epoch, pipe):
    while True:
        epoch += 1
        state = {"weights": torch.full((500_000,), float(epoch))}
        folder.write(Checkpoint(epoch, 0, state), TrainingLog({"a": None}))
        os.write(pipe, epoch.to_bytes(4, "big"))

sure = rounds = 0
while rounds < 25 or (not torn and rounds < 100):
    rounds += 1
    read, write = os.pipe()
    if not (child := os.fork()):
        write_for_ever(sure, write)
    os.close(write)
    first = os.read(read, 4)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = first + os.read(read, 1 << 16)
    os.close(read)
    done = int.from_bytes(told[-4:], "big")
    torn += bool(list(folder.path.glob("*.partial")))
    found = next(folder.load("a"))
    sure = found.position.epoch
    assert sure in (done, done + 1), (sure, done)
    assert found.state["weights"].eq(float(sure)).all()
    assert not list(folder.path.glob("*.partial"))
assert not folder.damaged
print(sure, torn)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_one(tmp_path: Path) -> None:
    """The last checkpoint that was certainly written, or the one after it, is there and whole. What
    was half written is deleted."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)], capture_output=True, text=True
    )
    assert killed.returncode == 0, killed.stderr
    saves, torn = map(int, killed.stdout.split())
    assert saves >= 25
    assert torn, "some were killed as they wrote"


def test_a_done_trial_is_continued_and_equals_the_longer_one_at_once(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    for scheduler in ("constant", "plateau", {"name": "step", "step_size": 1, "gamma": 0.5}):
        short, long = (
            small_trial(epochs=n, scheduler=scheduler, optimizer="momentum") for n in (2, 5)
        )
        done(short, data_root, checkpoints)
        assert [path.name for path in checkpoints.folder.rglob("*.*")] == ["000002.final"]
        records = list(run(task(long, data_root, checkpoints)))
        assert comparable(records) == comparable(uninterrupted_records(long, data_root))
        assert metadata_of(records[0])["continued_from"] == 2
        assert "resumed" not in metadata_of(records[0])
        shutil.rmtree(checkpoints.folder)


def test_a_continued_trial_that_is_interrupted_resumes(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    short, long = small_trial(epochs=1), small_trial(epochs=4)
    done(short, data_root, checkpoints)
    train_until(long, data_root, checkpoints, epochs=3)
    records = list(run(task(long, data_root, checkpoints)))
    assert comparable(records) == comparable(uninterrupted_records(long, data_root))
    metadata = metadata_of(records[0])
    assert (metadata["continued_from"], metadata["resumed"]) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"scheduler": "cosine"}, "the scheduler cosine depends on the length of the whole run"),
        ({"eval_every": 3}, "its last epoch was evaluated out of turn (eval_every: 3)"),
    ],
)
def test_what_cannot_be_continued_says_why(
    fields: dict[str, object], why: str, checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    done(small_trial(epochs=2, **fields), data_root, checkpoints)
    assert sum(path.stat().st_size for path in checkpoints.folder.rglob("*.*")) == 0
    records = list(run(task(small_trial(epochs=4, **fields), data_root, checkpoints)))
    assert metadata_of(records[0])["not_continued"] == why
    assert comparable(records) == comparable(
        uninterrupted_records(small_trial(epochs=4, **fields), data_root)
    )


def test_other_data_or_options_are_another_lineage(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    done(small_trial(epochs=1), data_root, checkpoints)
    for other in (small_trial(epochs=3, seed=1), small_trial(epochs=3, lr=0.2)):
        started, *_ = run(task(other, data_root, checkpoints))
        assert not {"continued_from", "resumed", "not_continued"} & set(metadata_of(started))
    trial = small_trial(epochs=3)
    assert (
        checkpoints.trial_folder(planned(trial, "other bytes")).parent
        != checkpoints.trial_folder(planned(trial)).parent
    )


def test_a_fresh_start_takes_nothing_over(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    done(small_trial(epochs=1), data_root, checkpoints)
    trial = small_trial(epochs=3)
    train_until(trial, data_root, checkpoints, epochs=2)
    fresh = ExperimentCheckpoints(checkpoints.folder, every=0, fresh=True)
    started, *_ = run(task(trial, data_root, fresh))
    assert not {"continued_from", "resumed", "not_continued", "restarted"} & set(
        metadata_of(started)
    )


def test_short_trials_leave_nothing(tmp_path: Path, data_root: Path) -> None:
    checkpoints = ExperimentCheckpoints(tmp_path / "room")
    done(small_trial(), data_root, checkpoints)
    assert not checkpoints.folder.exists()


def test_a_diverged_trial_leaves_nothing(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    trial = small_trial(lr=1e30)
    *_, ended = run(task(trial, data_root, checkpoints))
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.DIVERGED
    checkpoints.clear(checkpoints.trial_folder(planned(trial)), trial, done=False)
    assert not checkpoints.folder.exists()


def test_last_checkpoints_take_bounded_space(
    checkpoints: ExperimentCheckpoints, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(small_trial(epochs=1), data_root, checkpoints)
    (first,) = checkpoints.folder.rglob("*.final")
    monkeypatch.setattr(experiment_checkpoints, "FINAL_BYTES", int(first.stat().st_size * 2.5))
    os.utime(first, (1, 1))
    for seed in (1, 2):
        done(small_trial(epochs=1, seed=seed), data_root, checkpoints)
    assert len(list(checkpoints.folder.rglob("*.final"))) == 2
    assert not first.exists()


def test_another_number_of_threads_is_reported(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    trial = small_trial()
    train_until(trial, data_root, checkpoints, epochs=1)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        started = next(run(task(trial, data_root, checkpoints)))
    finally:
        torch.set_num_threads(before)
    assert isinstance(started, Started)
    assert metadata_of(started)["resumed_elsewhere"] == f"threads: {before}, now {before + 1}"


def done(trial: Trial, root: Path, checkpoints: ExperimentCheckpoints) -> None:
    """Train a trial to its end, as if its result were stored."""
    *_, ended = run(task(trial, root, checkpoints))
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.DONE
    checkpoints.clear(checkpoints.trial_folder(planned(trial)), trial, done=True)


def test_names_sort_by_position(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for epoch, batch in ((9, 5), (10, 0), (9, 0), (9, 1_000_000)):
        folder.write(Checkpoint(epoch, batch, {}), TrainingLog({"a": small_trial()}))
    assert [loaded.position for loaded in folder.load("a", small_trial())] == [
        (10, 0),
        (9, 1_000_000),
    ]


def test_the_format_of_a_trials_checkpoint_stays_readable(
    checkpoints: ExperimentCheckpoints, data_root: Path
) -> None:
    """Other versions resume from it: what a name holds may be added to, and not be renamed."""
    folder = train_until(small_trial(), data_root, checkpoints, epochs=2)
    content = load_checksummed(folder.path / "000001-000000005.pt")
    assert content.keys() == {"state", "history", "facts"}
    assert {"torch", "threads", "device_name"} <= content["facts"].keys()
    assert [record[0] for record in content["history"]] == ["measured", "batch_losses", "measured"]
    assert content["history"][2][1:] == (1, content["history"][2][2], 1293)
    state = content["state"]
    assert state["format"] == 1
    assert {"model", "optimizer", "learning_rate", "epoch", "clock", "device"} <= state.keys()
    assert state["clock"].keys() == {"train", "evaluation", "before"}
    assert state["begun"].keys() == {"before", "outputs", "losses", "targets", "streams"}
    without_times = {name: content["facts"][name] for name in ("torch", "threads", "device_name")}
    write_checksummed(
        folder.path / "000001-000000006.pt", {**content, "facts": without_times}
    )  # as the first version wrote it
    records = list(run(task(small_trial(), data_root, checkpoints)))
    assert metadata_of(records[0])["resumed"] == 1
