"""What a trial takes of the machine's memory, by allocating for real."""

from __future__ import annotations

import subprocess
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


MEASURES = """
import torch
from harness.training.memory import PeakMemory

def take(mib):
    '''Hold so much memory for a moment, in pieces as a network's tensors are.'''
    pieces = [torch.ones(2**18) for _ in range(mib)]
    del pieces

take(8)
first = PeakMemory(torch.device("cpu"))
take(64)
take(8)
print(first.bytes())
take(96)
second = PeakMemory(torch.device("cpu"))
print(second.bytes())
take(32)
print(second.bytes())
"""


@linux
def test_each_trial_has_the_peak_of_its_own_moment_of_most() -> None:
    """What an earlier one took and gave back counts neither for the next nor against it.

    In a process of its own: the system may take back memory of a large one that lay idle, at any
    moment, and that would count against what is measured.
    """
    command = [sys.executable, "-c", MEASURES]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, begun, second = (int(line) / 2**20 for line in told.split())
    assert 60 < first < 80
    assert begun < 4
    assert 28 < second < 48


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
    found = PeakMemory(device).bytes()
    assert found is not None
    assert found >= held.nbytes
