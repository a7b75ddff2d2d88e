"""Examines the set-up: Python, packages, devices, threads, data and disk."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from harness.core.text import format_bytes, plural
from harness.diagnostics.finding import Finding, note, ok, wrong

LEAST_FREE = 1 << 30
"""Bytes below which a disk is about to be full."""
OLDEST_PYTHON = (3, 11)


def examine(data_root: Path, home: Path) -> Iterator[Finding]:
    """Each check in turn. home: the folder of the store, which need not exist."""
    yield python()
    yield from packages()
    yield torch_and_torchvision()
    yield from devices()
    yield threads()
    yield data(data_root)
    yield from disk(data_root, home)
    yield shared_memory()


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return wrong("python", f"{version}; 3.11 or newer is needed")
    return ok("python", f"{version}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """Whether every package that the harness asks for is there, in a version that it asks for."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(text) for text in metadata.requires("harness") or ()]
    except metadata.PackageNotFoundError:
        yield note("packages", "the harness is not installed as a package; versions not compared")
        return
    needed = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    unmet = []
    for one in needed:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            unmet.append(f"{one} is not installed")
            continue
        if not one.specifier.contains(version, prereleases=True):
            unmet.append(f"{one} is asked for, {version} is installed")
    for text in unmet:
        yield wrong("packages", f"{text}: make install")
    if not unmet:
        yield ok("packages", f"{plural(len(needed), 'package')} as asked for")


def torch_and_torchvision() -> Finding:
    """Whether the two load and compute together; builds of different origins often do not."""
    try:
        versions = (
            f"torch {metadata.version('torch')}, torchvision {metadata.version('torchvision')}"
        )
    except metadata.PackageNotFoundError as error:
        return wrong("torch", f"{error.name} is not installed: make install")
    try:
        import torch
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5)
        if kept.tolist() != [1]:
            return wrong("torch", f"{versions}: an operation of torchvision gives a wrong result")
    except Exception as error:  # noqa: BLE001 - a broken build raises what it likes
        why = str(error).strip().split("\n")[0]
        return wrong("torch", f"{versions} do not work together ({why}): make install")
    return ok("torch", f"{versions}, together")


def devices() -> Iterator[Finding]:
    """A small product on each device that torch sees."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - as above
        yield wrong("devices", f"torch does not load: {error}")
        return
    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    for name in names:
        try:
            ones = torch.ones(64, 64, device=name)
            right = float((ones @ ones).sum()) == 64.0**3
        except (RuntimeError, AssertionError) as error:
            yield wrong("devices", f"{name}: {str(error).splitlines()[0]}")
            continue
        yield (
            ok("devices", _described(name)) if right else wrong("devices", f"{name} miscalculates")
        )


def _described(name: str) -> str:
    import torch

    from harness.core.system import cpu_model

    if name == "cpu":
        return f"cpu: {cpu_model()}"
    if name.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(name)
        gpu = torch.cuda.get_device_name(name)
        return f"{name}: {gpu}, {format_bytes(free)} of {format_bytes(total)} free"
    return name


def threads() -> Finding:
    """How many cores this process may use, and whether something asks for more threads."""
    from harness.execution.executors.choose import cores

    available = cores()
    asked = {
        name: int(text)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        if (text := os.environ.get(name, "")).isdecimal()
    }
    told = f"{plural(available, 'core')} for this process"
    told += "".join(f", {name}={number}" for name, number in asked.items())
    if any(number > available for number in asked.values()):
        return wrong("threads", f"{told}: more threads than cores hinder each other; unset it")
    return ok("threads", told)


def data(folder: Path) -> Finding:
    given = os.environ.get("HARNESS_DATA")
    if not folder.is_dir():
        if given:
            return wrong("data", f"HARNESS_DATA names {folder}, which is not a folder")
        return note("data", f"{folder} is made when a data set is first downloaded")
    if not os.access(folder, os.R_OK | os.X_OK):
        return wrong("data", f"{folder} cannot be read")
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    shown = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
    return ok("data", f"{folder}: {shown or 'empty'}")


def disk(data_root: Path, home: Path) -> Iterator[Finding]:
    """Whether there is room, and leave to write, where something will be written."""
    places = {"store": home, "data": data_root, "temporary": Path(tempfile.gettempdir())}
    for what, place in places.items():
        folder = next(path for path in (place, *place.parents) if path.is_dir())
        told = f"{what}: {format_bytes(shutil.disk_usage(folder).free)} free in {folder}"
        if shutil.disk_usage(folder).free < LEAST_FREE:
            yield wrong("disk", f"{told}: make room")
        elif not _is_writable(folder):
            if what == "data":
                yield note("disk", f"{told}, which is read-only: nothing can be downloaded there")
            else:
                yield wrong("disk", f"{told}, which cannot be written")
        else:
            yield ok("disk", told)


def _is_writable(folder: Path) -> bool:
    """By writing: what the permissions say is not all there is to say."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError:
        return False
    return True


def shared_memory() -> Finding:
    """Prepared data that killed processes left; the next sweep removes it as well."""
    from harness.execution.executors.worker_start import homes, orphans

    left = [folder for home in homes() for folder in orphans(home)]
    if not left:
        return ok("shared data", "none left by killed processes")
    size = sum(path.stat().st_size for folder in left for path in folder.rglob("*"))
    told = f"{plural(len(left), 'folder')} left by killed processes, {format_bytes(size)}"
    return wrong("shared data", f"{told}: {left[0]}", _removing(left, told))


def _removing(folders: list[Path], told: str) -> Callable[[], str]:
    def mend() -> str:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return f"{told}: removed"

    return mend
