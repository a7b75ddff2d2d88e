"""The findings that `harness.doctor` reports, and its checks of the set-up: Python, packages,
devices, threads, data and disks."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from harness.core.errors import StoreError, first_line
from harness.core.text import format_bytes, plural

MIN_FREE_BYTES = 1 << 30


class Status(StrEnum):
    """WRONG asks for action; NOTE is worth knowing, but no fault; FIXED was wrong before."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    text: the result; for a problem, also what to do about it.
    fix: repairs it and returns what was done; None where only a person can.
    """

    check: str
    status: Status
    text: str
    fix: Callable[[], str] | None = None

    def fixed(self) -> Finding:
        """Applies the fix, if there is one. Returns the finding to report afterwards."""
        if self.fix is None:
            return self
        try:
            return Finding(self.check, Status.FIXED, self.fix())
        except (StoreError, OSError) as error:
            return replace(self, text=f"{self.text}; the fix failed: {error}")


def ok(check: str, text: str) -> Finding:
    return Finding(check, Status.OK, text)


def note(check: str, text: str) -> Finding:
    return Finding(check, Status.NOTE, text)


def wrong(check: str, text: str, fix: Callable[[], str] | None = None) -> Finding:
    return Finding(check, Status.WRONG, text, fix)


def examine_setup(data_root: Path, store_folder: Path) -> Iterator[Finding]:
    """Yields the finding of each check of the set-up. store_folder: may be absent."""
    yield ok("python", f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")
    yield from check_packages()
    yield check_torch()
    yield from check_devices()
    yield check_threads()
    yield check_data(data_root)
    yield from check_disks(data_root, store_folder)


def check_packages() -> Iterator[Finding]:
    """Checks that every required package is installed, in a version that is allowed."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in metadata.requires("harness") or ()]
    except metadata.PackageNotFoundError:
        yield note("packages", "the harness is not installed as a package; versions not compared")
        return
    required = [r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]
    problems = []
    for requirement in required:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement} is required, {version} is installed")
    for problem in problems:
        yield wrong("packages", f"{problem}: make install")
    if not problems:
        yield ok("packages", f"{plural(len(required), 'package')} as required")


def check_torch() -> Finding:
    """Checks that torch and torchvision work together; builds of different origin often do not."""
    try:
        versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("torch", "torchvision"))
    except metadata.PackageNotFoundError as error:
        return wrong("torch", f"{error.name} is not installed: make install")
    try:
        import torch
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
        indices = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5)
        if indices.tolist() != [1]:
            return wrong("torch", f"{versions}: an operation of torchvision gives a wrong result")
    except Exception as error:  # noqa: BLE001 - a broken build raises exceptions of any kind
        why = str(error).strip().split("\n")[0]
        return wrong("torch", f"{versions} do not work together ({why}): make install")
    return ok("torch", f"{versions}, compatible")


def check_devices() -> Iterator[Finding]:
    """Computes a small product on each device that torch sees."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - as above
        yield wrong("devices", f"torch cannot be imported: {error}")
        return
    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    for name in names:
        try:
            ones = torch.ones(64, 64, device=name)
            correct = float((ones @ ones).sum()) == 64.0**3
            described = _describe(name)
        except (RuntimeError, AssertionError) as error:
            yield wrong("devices", f"{name}: {first_line(error)}")
            continue
        yield ok("devices", described) if correct else wrong("devices", f"{name} miscalculates")


def _describe(device: str) -> str:
    import torch

    from harness.core.process import cpu_model

    if device == "cpu":
        return f"cpu: {cpu_model()}"
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        gpu = torch.cuda.get_device_name(device)
        return f"{device}: {gpu}, {format_bytes(free)} of {format_bytes(total)} free"
    return device


def check_threads() -> Finding:
    """Counts this process's cores, and checks that no variable asks for more threads than that."""
    from harness.execution.devices import available_cores

    available = available_cores()
    requested = {
        name: int(text)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        if (text := os.environ.get(name, "")).isdecimal()
    }
    text = f"{plural(available, 'core')} for this process"
    text += "".join(f", {name}={number}" for name, number in requested.items())
    if any(number > available for number in requested.values()):
        return wrong("threads", f"{text}: more threads than cores slow each other down; unset it")
    return ok("threads", text)


def check_data(folder: Path) -> Finding:
    if not folder.is_dir():
        if os.environ.get("HARNESS_DATA"):
            return wrong("data", f"HARNESS_DATA names {folder}, which is not a folder")
        return note("data", f"{folder} is made when a data set is first downloaded")
    if not os.access(folder, os.R_OK | os.X_OK):
        return wrong("data", f"{folder} cannot be read")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return ok("data", f"{folder}: {shown or 'empty'}")


def check_disks(data_root: Path, store_folder: Path) -> Iterator[Finding]:
    """Checks that there is space, and permission to write, where files will be written."""
    temporary = Path(tempfile.gettempdir())
    for purpose, path in (("store", store_folder), ("data", data_root), ("temporary", temporary)):
        folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
        free = shutil.disk_usage(folder).free
        text = f"{purpose}: {format_bytes(free)} free in {folder}"
        if free < MIN_FREE_BYTES:
            yield wrong("disk", f"{text}: free some space")
        elif _is_writable(folder):
            yield ok("disk", text)
        elif purpose == "data":
            yield note("disk", f"{text}, which is read-only: nothing can be downloaded there")
        else:
            yield wrong("disk", f"{text}, which cannot be written to")


def _is_writable(folder: Path) -> bool:
    """Whether a file can be written, which permissions alone do not say."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError:
        return False
    return True
