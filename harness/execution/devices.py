"""Devices and their slots: which a machine has, and which of them a task gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InputError, Problem

GPU_KINDS = ("cuda", "mps")


@dataclass(frozen=True, slots=True)
class DeviceSlots:
    """A device that trains `count` tasks at once, with so many of torch's threads each."""

    device: str
    count: int
    threads: int = 1

    @property
    def kind(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self.device.partition(":")[0]


class SlotPool:
    """The device slots of a machine, and how many of them are free.

    A trial's `device` names a device ("cuda:1", "cpu") or a kind ("cuda": any of them), or is
    "auto": any GPU if there is one, else the CPU.
    """

    def __init__(self, devices: Sequence[DeviceSlots]) -> None:
        self._devices = tuple(devices)
        self._free = {slots.device: slots.count for slots in devices}

    def matching(self, device: str) -> tuple[DeviceSlots, ...]:
        """Returns the devices on which a trial of this `device` may train."""
        named = tuple(slots for slots in self._devices if device in (slots.device, slots.kind))
        if device != "auto":
            return named
        gpus = tuple(slots for slots in self._devices if slots.kind in GPU_KINDS)
        return gpus or self._devices

    def find_free(self, device: str) -> DeviceSlots | None:
        """Returns the matching device with the most free slots, or None while none is free.

        For a device that the machine lacks, any device will do: the trial fails there and says why.
        """
        candidates = self.matching(device) or self._devices
        emptiest = max(candidates, key=lambda slots: self._free[slots.device])
        return emptiest if self._free[emptiest.device] else None

    def take(self, slots: DeviceSlots) -> None:
        self._free[slots.device] -= 1

    def release(self, slots: DeviceSlots) -> None:
        self._free[slots.device] += 1


def device_slots(
    devices: Sequence[str],
    gpus: Sequence[str],
    cores: int,
    workers: int | None = None,
    slots: int = 1,
    exclusive: bool = False,
) -> list[DeviceSlots]:
    """Returns the slots for trials with these `device` fields, on a machine with these GPUs.

    workers: trials at once on the CPU; by default one a core, and at most one a trial.
    slots: trials at once on each GPU. exclusive: one trial at once on each device, with all cores
    but one for each GPU. Raises InputError where the options contradict each other.
    """
    if exclusive and ((workers or 1) > 1 or slots > 1):
        raise InputError(
            "--exclusive trains one trial at a time on each device: leave --workers "
            "and --slots out, or at 1"
        )
    machine = SlotPool([*(DeviceSlots(gpu, slots) for gpu in gpus), DeviceSlots("cpu", 1)])
    matches = [machine.matching(device) or (DeviceSlots("cpu", 1),) for device in devices]
    used = {match.device for matching in matches for match in matching}
    used_gpus = [gpu for gpu in gpus if gpu in used]
    cpu_trials = sum(any(match.device == "cpu" for match in matching) for matching in matches)
    if workers is not None and not cpu_trials:
        raise InputError(
            Problem(
                "--workers: none of these trials trains on the CPU",
                hint="--slots says how many train at once on each GPU",
            )
        )
    free_cores = max(1, cores - len(used_gpus) * slots)
    gpu_threads = 1 if cpu_trials else max(1, cores // max(1, len(used_gpus) * slots))
    chosen = [DeviceSlots(gpu, slots, gpu_threads) for gpu in used_gpus]
    if cpu_trials:
        count = 1 if exclusive else workers or min(free_cores, cpu_trials)
        chosen.append(DeviceSlots("cpu", count, max(1, free_cores // count)))
    return chosen


def require_devices(devices: Sequence[str], gpus: Sequence[str]) -> None:
    """Raises InputError for devices that trials name and a machine with these GPUs lacks: the
    trials could only fail."""
    machine = SlotPool([DeviceSlots(gpu, 1) for gpu in gpus])
    hint = f"this machine has: {', '.join(('cpu', *gpus))}"
    problems = [
        Problem(f"device: {device!r} is not available on this machine", "", hint)
        for device in dict.fromkeys(devices)
        if device not in ("auto", "cpu") and not machine.matching(device)
    ]
    if problems:
        raise InputError(problems)


def available_gpus() -> tuple[str, ...]:
    """Returns "cuda:0", "cuda:1", … or "mps"; empty if there is no GPU.

    Imports torch, which takes seconds, only if a driver is installed.
    """
    has_driver = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
    if not has_driver and os.uname().sysname != "Darwin":
        return ()
    import torch

    if has_driver:
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return ("mps",) if torch.backends.mps.is_available() else ()


def available_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
