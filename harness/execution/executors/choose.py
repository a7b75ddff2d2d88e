"""Chooses the executor for the trials of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.core.errors import InputError
from harness.execution.devices import (
    available_cores,
    available_gpus,
    device_slots,
    require_devices,
)
from harness.execution.executors.base import Executor
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.experiment.trial import Trial

ExecutorName = Literal["inline", "process", "ray"]


def make_executor(
    trials: Sequence[Trial],
    executor: ExecutorName | None = None,
    workers: int | None = None,
    *,
    slots: int = 1,
    exclusive: bool = False,
    address: str | None = None,
) -> Executor:
    """Returns the executor for these trials.

    trials: all trials of a plan, so that the remaining trials train after an interruption with as
    many threads as before. executor: as the user chose; None trains in this process if
    one trial trains at a time, else in worker processes. workers, slots, exclusive: as for
    `device_slots`. address: of a Ray cluster; None starts one on this machine.
    Raises InputError if the options contradict each other.
    """
    if address is not None and executor != "ray":
        raise InputError("--address is of a Ray cluster: it needs --executor ray")
    if executor == "ray":
        return _ray_executor(workers, slots, exclusive, address)
    if executor == "inline" and (workers or 1) > 1:
        raise InputError("--executor inline trains one trial at a time: leave --workers out")
    devices = [trial.device for trial in trials]
    gpus = available_gpus() if any(device != "cpu" for device in devices) else ()
    require_devices(devices, gpus)
    chosen = device_slots(devices, gpus, available_cores(), workers, slots, exclusive)
    if executor is None:
        executor = "process" if sum(device.count for device in chosen) > 1 else "inline"
    if executor == "inline":
        return InlineExecutor()
    imports = [name for trial in trials for name in trial.dataset.component.imports]
    return ProcessExecutor(chosen, tuple(dict.fromkeys(imports)))


def _ray_executor(
    workers: int | None, slots: int, exclusive: bool, address: str | None
) -> Executor:
    from harness.execution.executors.ray import RayExecutor

    if exclusive:
        raise InputError(
            "--exclusive: on a Ray cluster other work may train on the same cores; "
            "leave --executor ray out"
        )
    return RayExecutor(address, slots=slots, limit=workers)
