"""Where tasks may train: devices with slots, and which of them a task gets. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GPU_KINDS = ("cuda", "mps")


@dataclass(frozen=True, slots=True)
class DeviceSlots:
    """A device. slots: how many tasks train on it at once. threads: torch's, for each of them."""

    device: str
    slots: int
    threads: int = 1

    @property
    def kind(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self.device.partition(":")[0]


class SlotPool:
    """A machine's devices and what is taken of them.

    A trial's `device` names one of them ("cuda:1", "cpu"), a kind ("cuda": any of them), or is
    "auto": any GPU where there is one, else the CPU.
    """

    def __init__(self, places: Sequence[DeviceSlots]) -> None:
        self._places = tuple(places)
        self._free = {place.device: place.slots for place in places}

    @property
    def slots(self) -> int:
        return sum(place.slots for place in self._places)

    def suiting(self, device: str) -> tuple[DeviceSlots, ...]:
        """The places where a trial of this `device` may train; empty where the machine has none."""
        named = tuple(place for place in self._places if device in (place.device, place.kind))
        if device != "auto":
            return named
        gpus = tuple(place for place in self._places if place.kind in GPU_KINDS)
        return gpus or self._places

    def find(self, device: str) -> DeviceSlots | None:
        """A suiting place with a free slot, the emptiest first; None while there is none.

        Any place will do for a device that is absent: the trial will fail there and say why.
        """
        fitting = self.suiting(device) or self._places
        emptiest = max(fitting, key=lambda place: self._free[place.device])
        return emptiest if self._free[emptiest.device] else None

    def take(self, place: DeviceSlots) -> None:
        self._free[place.device] -= 1

    def release(self, place: DeviceSlots) -> None:
        self._free[place.device] += 1
