"""The memory that a trial takes, measured on real allocations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.core.metrics import PEAK_MEMORY
from harness.training import resources
from harness.training.resources import PeakMemory, ResourceMeter

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets a process's peak")


MEASURES = """
import sys
import torch
from harness.training.device import keep_freed_memory
from harness.training.resources import PeakMemory

if sys.argv[1:] == ["keep"]:
    keep_freed_memory()

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
@pytest.mark.parametrize("kept", [(), ("keep",)])
def test_each_trial_has_a_peak_of_its_own(kept: tuple[str, ...]) -> None:
    """Memory that an earlier trial freed changes nothing, whether or not the process keeps it.

    In a process of its own: the system may take back memory of a large one that lay idle, at any
    moment, and that would count against what is measured.
    """
    command = [sys.executable, "-c", MEASURES, *kept]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, begun, second = (int(line) / 2**20 for line in told.split())
    assert 60 < first < 80
    assert begun < 4
    assert 28 < second < 48


REUSES = """
import resource
import torch
from harness.training.device import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def take():
    '''Two tensors of 64 MiB, one after the other: how many pages the system had to give.'''
    before = faults()
    for _ in range(2):
        torch.ones(2**24)
    return faults() - before

take()
print(take())
keep_freed_memory()
for _ in range(10):  # glibc finds a place for aligned pieces by and by.
    take()
print(take())
"""


@linux
def test_freed_memory_is_reused() -> None:
    told = subprocess.run(
        [sys.executable, "-c", REUSES], capture_output=True, text=True, check=True
    ).stdout
    given_back, kept = map(int, told.split())
    if given_back < 1000:
        pytest.skip("this C library keeps large pieces by itself")
    assert kept < given_back / 10


@linux
def test_the_peak_before_an_interruption_counts() -> None:
    assert ResourceMeter(CPU, previous_peak=2**40).memory() == {PEAK_MEMORY: 2**20}


def test_without_a_reset_there_is_no_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "CLEAR", tmp_path / "absent" / "clear_refs")
    assert PeakMemory(CPU).bytes() is None
    assert ResourceMeter(CPU).memory() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_peak_is_torchs() -> None:
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.ones(2**22, device=device)
    found = PeakMemory(device).bytes()
    assert found is not None
    assert found >= held.nbytes
