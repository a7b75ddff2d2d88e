"""Which engine a sweep gets: on which devices, how many workers, of how many threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from harness.core.errors import InputError, Problem
from harness.execution.devices import GPU_KINDS, DeviceSlots, SlotPool
from harness.execution.executors.base import Executor
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.execution.gpus import gpus
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
    """The engine for these trials: all of a plan, so that what is left of it after an interruption
    trains with as many threads as what was trained before.

    executor: as the user set it, or None, which trains in this process what trains one at a time.
    address: of a Ray cluster; None starts one here. For the others see `places`.
    Raises InputError where they contradict each other.
    """
    if address is not None and executor != "ray":
        raise InputError("--address is of a Ray cluster: it needs --executor ray")
    if executor == "ray":
        return _on_ray(workers, slots, exclusive, address)
    if executor == "inline" and (workers or 1) > 1:
        raise InputError("--executor inline trains one trial at a time: leave --workers out")
    devices = [trial.device for trial in trials]
    found = gpus() if any(device != "cpu" for device in devices) else ()
    require_present(devices, found)
    chosen = device_slots(
        devices,
        found,
        cores(),
        workers,
        slots,
        exclusive,
    )
    if executor is None:
        executor = "process" if sum(place.slots for place in chosen) > 1 else "inline"
    if executor == "inline":
        return InlineExecutor()
    imports = [name for trial in trials for name in trial.dataset.component.imports]
    return ProcessExecutor(chosen, tuple(dict.fromkeys(imports)))


def require_present(devices: Sequence[str], found: Sequence[str]) -> None:
    """Raises InputError for devices asked for by name that this machine, with the GPUs `found`,
    does not have: their trials could only fail."""
    machine = SlotPool([DeviceSlots(gpu, 1) for gpu in found])
    absent = [
        device
        for device in dict.fromkeys(devices)
        if device not in ("auto", "cpu") and not machine.suiting(device)
    ]
    if absent:
        hint = f"this machine has: {', '.join(('cpu', *found))}"
        raise InputError(
            [
                Problem(f"device: {one!r} is not available on this machine", "", hint)
                for one in absent
            ]
        )


def _on_ray(workers: int | None, slots: int, exclusive: bool, address: str | None) -> Executor:
    from harness.execution.executors.ray import RayExecutor

    if exclusive:
        raise InputError(
            "--exclusive: on a Ray cluster other work may train on the same cores; "
            "leave --executor ray out"
        )
    return RayExecutor(address, slots=slots, limit=workers)


def device_slots(
    devices: Sequence[str],
    found: Sequence[str],
    cores: int,
    workers: int | None = None,
    slots: int = 1,
    exclusive: bool = False,
) -> list[DeviceSlots]:
    """Where trials of these `device` fields train, on a machine with the GPUs `found`.

    workers: trials at once on the CPU; by default one a core, and never more than there are
    trials. slots: trials at once on each GPU. exclusive: one trial at once on each device, with
    all cores but one for each GPU.
    """
    if exclusive and ((workers or 1) > 1 or slots > 1):
        raise InputError(
            "--exclusive trains one trial at a time on each device: leave --workers "
            "and --slots out, or at 1"
        )
    machine = SlotPool([*(DeviceSlots(gpu, slots) for gpu in found), DeviceSlots("cpu", 1)])
    wanted = [machine.suiting(device) or (DeviceSlots("cpu", 1),) for device in devices]
    used = {place.device for suiting in wanted for place in suiting}
    graphic = [gpu for gpu in found if gpu in used]
    on_cpu = sum(any(place.kind not in GPU_KINDS for place in suiting) for suiting in wanted)
    if workers is not None and not on_cpu:
        raise InputError(
            Problem(
                "--workers: none of these trials trains on the CPU",
                hint="--slots says how many train at once on each GPU",
            )
        )
    left = max(1, cores - len(graphic) * slots)
    count = 0
    if on_cpu:
        count = 1 if exclusive else workers or min(left, on_cpu)
    of_gpu = 1 if on_cpu else max(1, cores // max(1, len(graphic) * slots))
    chosen = [DeviceSlots(gpu, slots, of_gpu) for gpu in graphic]
    if count:
        chosen.append(DeviceSlots("cpu", count, max(1, left // count)))
    return chosen


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
