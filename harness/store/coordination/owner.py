"""Which process writes a run, so that a later one can tell whether it still lives."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import psutil


@cache
def owner() -> str:
    """This process, as a tag's value."""
    return json.dumps({"host": _host(), "boot": _boot(), "pid": os.getpid(), "born": _born()})


def is_dead(tag: str) -> bool:
    """Whether the process of an `owner()` tag is dead for certain.

    False of another host's process, about which nothing can be known here.
    """
    told = _read(tag)
    if told is None or told["host"] != _host():
        return False
    if told["boot"] != _boot():
        return True
    pid = told["pid"]
    return not psutil.pid_exists(pid) or _born(pid) != told["born"]


def is_certain(tag: str) -> bool:
    """Whether the process of an `owner()` tag is one of this host, so that `is_dead` knows."""
    told = _read(tag)
    return told is not None and told["host"] == _host()


def _read(tag: str) -> dict[str, Any] | None:
    """What an `owner()` tag tells; None where it is none."""
    try:
        told = json.loads(tag)
        return {**told, "pid": int(told["pid"])} if {"host", "boot", "born"} <= set(told) else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _host() -> str:
    """The host and the container on it: process numbers mean something in one container only."""
    try:
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _born(pid: int | None = None) -> str:
    """When a process began, by a clock that nobody sets; empty where it is gone."""
    pid = pid or os.getpid()
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        return after_name.split()[19]  # field 22 of proc(5): ticks since boot
    except OSError:
        pass
    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return ""
