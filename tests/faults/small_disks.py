"""File systems that fill up, in a namespace that ends with its last process."""

from __future__ import annotations

import shutil
import subprocess

import pytest

_ENTER = ("unshare", "--user", "--map-root-user", "--mount")


def in_namespace(script: str, *command: str) -> str:
    """The output of a shell script that may mount file systems in the current folder.

    command: its "$@". Skips the test if users may not make namespaces here.
    """
    if shutil.which("unshare") is None or subprocess.run([*_ENTER, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    ran = subprocess.run(
        [*_ENTER, "sh", "-c", script, "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ran.stdout
