"""Which process writes a run, so that a later one can tell whether it still lives."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path

import psutil


@cache
def owner() -> str:
    """This process, as a tag's value."""
    return json.dumps({"host": _host(), "boot": _boot(), "pid": os.getpid(), "born": _born()})


def is_dead(tag: str) -> bool:
    """Whether the process of an `owner()` tag is dead for certain.

    False of another host's process, about which nothing can be known here.
    """
    try:
        told = json.loads(tag)
        host, boot, pid, born = told["host"], told["boot"], int(told["pid"]), told["born"]
    except (ValueError, KeyError, TypeError):
        return False
    if host != _host():
        return False
    if boot != _boot():
        return True
    return not psutil.pid_exists(pid) or _born(pid) != born


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
