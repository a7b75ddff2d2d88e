"""A trial trains on the bytes that it was planned with, or fails and says why."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.components.shared import data_files
from harness.core.records import Ended, Measured, Outcome
from harness.execution.executors.base import TrainingTask
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import make_task
from harness.execution.run_task import events, run
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Choice, Fingerprint, Trial, make_trial_id
from harness.training.data import clear_caches, load_dataset, load_splits
from harness.training.planned_files import load_planned
from tests.components.synthetic_data import write_family, write_image
from tests.support import make_trial

CPU = torch.device("cpu")
Change = Callable[[Path], None]


def table(first: str) -> str:
    rows = [f"{i % 7}.5,{i % 5},{first if i % 2 else 'c'}" for i in range(60)]
    return "\n".join(["u,v,y", *rows, ""])


def csv_trial(root: Path, **fields: Any) -> tuple[Trial, Path]:
    (root / "t.csv").write_text(table("a"))
    dataset = {"name": "csv", "path": "t.csv", "target": "y"}
    return make_trial(dataset=dataset, **fields), root / "t.csv"


def image_trial(root: Path, memory_gb: float) -> tuple[Trial, Path]:
    for label in ("a", "b"):
        for i in range(6):
            write_image(root / "photos" / label / f"{i}.png", seed=i)
    dataset = {"name": "image_folder", "path": "photos", "memory_gb": memory_gb}
    return make_trial(dataset=dataset), root / "photos" / "a" / "3.png"


def mnist_trial(root: Path) -> tuple[Trial, Path]:
    write_family(root, "MNIST")
    return make_trial(dataset={"name": "mnist"}), root / "MNIST" / "raw" / "train-images-idx3-ubyte"


TRIALS: dict[str, Callable[[Path], tuple[Trial, Path]]] = {
    "a table": csv_trial,
    "images in memory": lambda root: image_trial(root, 1.0),
    "images that are streamed": lambda root: image_trial(root, 0.0),
    "mnist": mnist_trial,
}


def other_bytes(path: Path) -> bytes:
    """A file's content, as long as before and still readable: its last byte that is a pixel or a
    digit differs."""
    if path.suffix == ".png":
        other = path.with_name("other")
        write_image(other.with_suffix(".png"), seed=99)
        image = other.with_suffix(".png").read_bytes()
        other.with_suffix(".png").unlink()
        return image
    content = bytearray(path.read_bytes())
    place = len(content) - 2 if path.suffix == ".csv" else len(content) - 1
    content[place] = ord("b") if path.suffix == ".csv" else content[place] ^ 1
    return bytes(content)


def in_place(path: Path) -> None:
    path.write_bytes(other_bytes(path))


def replaced(path: Path) -> None:
    """As an editor or `mv` does, with the times of the file that it replaces."""
    stat = path.stat()
    new = path.parent.parent / "new"
    new.write_bytes(other_bytes(path))
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(path)


def in_place_with_old_times(path: Path) -> None:
    stat = path.stat()
    in_place(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def planned_task(trials: list[Trial], root: Path) -> TrainingTask:
    fingerprint = trials[0].fingerprint(root)
    by_id = {str(number): trial for number, trial in enumerate(trials)}
    return TrainingTask(by_id, root, False, fingerprint=fingerprint)


def failure_of(task: TrainingTask) -> str:
    *_, ended = run(task)
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    assert ended.traceback == ""
    return ended.reason


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_caches()


@pytest.mark.parametrize("change", [in_place, replaced, in_place_with_old_times])
@pytest.mark.parametrize("kind", TRIALS)
def test_other_bytes_than_planned_fail_the_trial(tmp_path: Path, kind: str, change: Change) -> None:
    trial, file = TRIALS[kind](tmp_path)
    task = planned_task([trial], tmp_path)
    change(file)
    clear_caches()

    reason = failure_of(task)

    assert "changed after the trial was planned" in reason
    assert file.name in reason
    assert task.fingerprint.data[:16] in reason
    assert trial.fingerprint(tmp_path).data[:16] in reason


def test_equal_bytes_at_another_time_are_the_planned_ones(tmp_path: Path) -> None:
    trial, file = csv_trial(tmp_path)
    task = planned_task([trial], tmp_path)
    file.write_bytes(file.read_bytes())

    *_, ended = run(task)

    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.DONE


def test_every_trial_of_a_stack_fails(tmp_path: Path) -> None:
    trial, file = csv_trial(tmp_path)
    task = planned_task([trial, replace(trial, seed=1), replace(trial, lr=0.2)], tmp_path)
    in_place(file)
    clear_caches()

    ended = {event.key: event.record for event in events(task) if isinstance(event.record, Ended)}

    assert len(ended) == 3
    assert all(
        isinstance(end, Ended) and "changed after the trial was planned" in end.reason
        for end in ended.values()
    )


def test_a_trial_that_resumes_checks_too(tmp_path: Path) -> None:
    trial, file = csv_trial(tmp_path, epochs=3)
    fingerprint = trial.fingerprint(tmp_path)
    trial_id = make_trial_id(trial.identity(), fingerprint)
    planned = PlannedTrial(trial, trial_id, "config", "a trial", {}, fingerprint)
    checkpoints = ExperimentCheckpoints(tmp_path / "checkpoints", every=0.0)
    for record in run(make_task(tmp_path, False, checkpoints, None, [planned])):
        if isinstance(record, Measured) and record.epoch == 1:
            break
    in_place(file)
    clear_caches()

    reason = failure_of(make_task(tmp_path, False, checkpoints, None, [planned]))

    assert str(file) in reason


def test_streamed_images_that_change_during_training_fail_the_trial(tmp_path: Path) -> None:
    trial, file = image_trial(tmp_path, 0.0)
    running = run(planned_task([replace(trial, epochs=2)], tmp_path))
    for record in running:
        if isinstance(record, Measured) and record.epoch == 1:
            break
    in_place(file)

    *_, ended = running

    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    assert file.name in ended.reason


def with_load(trial: Trial, wrap: Callable[[Callable[[], Any]], Any]) -> Trial:
    """The trial with a data set whose loading is wrapped."""
    component = trial.dataset.component

    def load(options: Any, root: Path) -> Any:
        return wrap(lambda: component.load(options, root))

    return replace(trial, dataset=Choice(replace(component, load=load), trial.dataset.options))


def test_a_swap_while_the_file_is_loaded_is_noticed(tmp_path: Path) -> None:
    trial, file = csv_trial(tmp_path)

    def swapping(load: Callable[[], Any]) -> Any:
        in_place(file)
        return load()

    task = planned_task([with_load(trial, swapping)], tmp_path)

    assert "changed after the trial was planned" in failure_of(task)


def test_a_file_that_is_swapped_and_put_back_is_read_again(tmp_path: Path) -> None:
    trial, file = csv_trial(tmp_path)
    loads: list[Any] = []

    def swapping(load: Callable[[], Any]) -> Any:
        before = file.read_bytes()
        if not loads:
            in_place(file)
        loads.append(load())
        if len(loads) == 1:
            file.write_bytes(before)
        return loads[-1]

    checksum = trial.fingerprint(tmp_path).data
    raw = load_dataset(with_load(trial, swapping).dataset, tmp_path, checksum)

    assert len(loads) == 2
    assert raw is loads[1]
    assert not torch.equal(loads[0].train.targets, loads[1].train.targets)


def test_an_edited_file_is_loaded_again_in_the_same_process(tmp_path: Path) -> None:
    """As when a notebook runs two sweeps: the first one's data must not serve the second."""
    trial, file = csv_trial(tmp_path)
    first = load_splits(trial, tmp_path, CPU, trial.fingerprint(tmp_path).data)
    file.write_text(table("a").replace("0.5", "8.5"))

    second = load_splits(trial, tmp_path, CPU, trial.fingerprint(tmp_path).data)

    assert not torch.equal(first.train.inputs, second.train.inputs)  # type: ignore[attr-defined]


def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, _ = csv_trial(tmp_path)
    time.sleep(2 * data_files.TIME_RESOLUTION_NS / 1e9)
    hashed = []
    digest = hashlib.file_digest

    def counting(file: Any, kind: str) -> Any:
        hashed.append(file)
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    checksum = trial.fingerprint(tmp_path).data

    for seed in range(10):
        clear_caches()
        load_splits(replace(trial, seed=seed), tmp_path, CPU, checksum)

    assert len(hashed) == 1


def test_other_weights_than_planned_fail_the_trial(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.squeezenet1_1(num_classes=10)
    file = tmp_path / "net.pth"
    torch.save(network.state_dict(), file)
    model = {"name": "torchvision", "arch": "squeezenet1_1", "weights": str(file), "resize": 32}
    dataset = {"name": "digits", "channels": 3, "limit": 60}
    trial = make_trial(model=model, dataset=dataset, epochs=1)
    task = planned_task([trial], tmp_path)
    torch.save({name: value * 2 for name, value in network.state_dict().items()}, file)

    reason = failure_of(task)

    assert str(file) in reason
    assert task.fingerprint.weights[:16] in reason


def test_a_trial_without_a_planned_checksum_checks_nothing(tmp_path: Path) -> None:
    assert load_planned("a model", "", lambda: pytest.fail("not asked"), lambda: 3) == 3
    assert str(Fingerprint("a", "b")) == "a+b"
    assert str(Fingerprint("a")) == "a"
