"""What a trial takes of the machine's memory, by allocating for real."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
import torch

from harness.naming import PEAK_MEMORY
from harness.training import memory
from harness.training.clock import Clock
from harness.training.memory import PeakMemory

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets a process's peak")


@pytest.fixture(autouse=True)
def _nothing_left_of_other_tests() -> None:
    """What Python's collector gives back while a test allocates would count against it."""
    gc.collect()


def take(mib: int) -> None:
    """Hold so much memory for a moment, in pieces as a network's tensors are."""
    pieces = [torch.ones(2**18) for _ in range(mib)]
    del pieces


def mib(peak: PeakMemory) -> float:
    found = peak.bytes()
    assert found is not None
    return found / 2**20


@linux
def test_the_peak_is_that_of_the_moment_of_most() -> None:
    peak = PeakMemory(CPU)
    take(64)
    take(8)
    assert 60 < mib(peak) < 80


@linux
def test_each_trial_has_a_peak_of_its_own() -> None:
    """What an earlier one took and gave back counts neither for the next nor against it."""
    take(96)
    peak = PeakMemory(CPU)
    assert mib(peak) < 4
    take(32)
    assert 28 < mib(peak) < 48


@linux
def test_what_was_held_before_an_interruption_counts() -> None:
    assert Clock(CPU, before=2**40).memory() == {PEAK_MEMORY: 2**20}


def test_where_a_peak_cannot_be_reset_there_is_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "absent" / "clear_refs")
    assert PeakMemory(CPU).bytes() is None
    assert Clock(CPU).memory() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_peak_is_torchs() -> None:
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.ones(2**22, device=device)
    assert mib(PeakMemory(device)) >= held.nbytes / 2**20
