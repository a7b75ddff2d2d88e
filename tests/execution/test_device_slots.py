"""Device slots, on machines that need not exist."""

from __future__ import annotations

import pytest

from harness.core.errors import InputError
from harness.execution.devices import DeviceSlots, SlotPool, device_slots

TWO_GPUS = ("cuda:0", "cuda:1")


def table(*rows: tuple[str, int]) -> SlotPool:
    return SlotPool([DeviceSlots(device, slots) for device, slots in rows])


def devices(machine: SlotPool, *wanted: str) -> list[str | None]:
    """The devices that one trial after another gets; none is released."""
    found = []
    for device in wanted:
        place = machine.find_free(device)
        if place is not None:
            machine.take(place)
        found.append(None if place is None else place.device)
    return found


def test_auto_spreads_over_gpus_and_leaves_the_cpu_alone() -> None:
    machine = table(("cuda:0", 2), ("cuda:1", 2), ("cpu", 4))
    found = devices(machine, *["auto"] * 5)
    assert sorted(map(str, found[:2])) == ["cuda:0", "cuda:1"]
    assert sorted(map(str, found[2:4])) == ["cuda:0", "cuda:1"]
    assert found[4] is None, "it waits for a GPU"


def test_auto_without_a_gpu_is_the_cpu() -> None:
    assert devices(table(("cpu", 2)), "auto", "auto", "auto") == ["cpu", "cpu", None]


def test_a_named_device_is_kept() -> None:
    machine = table(("cuda:0", 1), ("cuda:1", 1), ("cpu", 1))
    assert devices(machine, "cuda:1", "cuda:1", "cpu", "cuda", "cuda") == [
        "cuda:1",
        None,
        "cpu",
        "cuda:0",
        None,
    ]


def test_a_released_slot_is_taken_again() -> None:
    machine = table(("cpu", 1))
    place = machine.find_free("cpu")
    assert place is not None
    machine.take(place)
    assert machine.find_free("cpu") is None
    machine.release(place)
    assert machine.find_free("cpu") == place


def test_an_absent_device_fails_on_another_and_says_so() -> None:
    machine = table(("cpu", 1))
    assert machine.matching("cuda:7") == ()
    assert devices(machine, "cuda:7") == ["cpu"]


@pytest.mark.parametrize(
    ("wanted", "gpus", "options", "expected"),
    [
        (["cpu"] * 8, (), {}, [DeviceSlots("cpu", 4, 1)]),
        (["cpu"] * 2, (), {}, [DeviceSlots("cpu", 2, 2)]),
        (["cpu"] * 8, (), {"workers": 2}, [DeviceSlots("cpu", 2, 2)]),
        (["auto"] * 8, (), {}, [DeviceSlots("cpu", 4, 1)]),
        (["auto"] * 8, TWO_GPUS, {}, [DeviceSlots("cuda:0", 1, 2), DeviceSlots("cuda:1", 1, 2)]),
        (["cuda:1"] * 8, TWO_GPUS, {"slots": 2}, [DeviceSlots("cuda:1", 2, 2)]),
        (
            ["cpu", "cuda"] * 4,
            ("cuda:0",),
            {},
            [DeviceSlots("cuda:0", 1, 1), DeviceSlots("cpu", 3, 1)],
        ),
        (["cpu"] * 8, (), {"exclusive": True}, [DeviceSlots("cpu", 1, 4)]),
        (
            ["cpu", "auto"] * 4,
            ("cuda:0",),
            {"exclusive": True},
            [DeviceSlots("cuda:0", 1, 1), DeviceSlots("cpu", 1, 3)],
        ),
        (["cuda"] * 3, (), {}, [DeviceSlots("cpu", 3, 1)]),
        (["cpu"] * 8, (), {"workers": 16}, [DeviceSlots("cpu", 16, 1)]),
    ],
)
def test_a_machine_of_four_cores(
    wanted: list[str], gpus: tuple[str, ...], options: dict[str, int], expected: list[DeviceSlots]
) -> None:
    assert device_slots(wanted, gpus, 4, **options) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"workers": 2}, {"slots": 2}])
def test_exclusive_refuses_what_contradicts_it(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="--exclusive"):
        device_slots(["cpu"], (), 4, exclusive=True, **options)


def test_workers_without_cpu_trials_are_refused() -> None:
    with pytest.raises(InputError, match="--slots"):
        device_slots(["auto"], TWO_GPUS, 4, workers=3)
