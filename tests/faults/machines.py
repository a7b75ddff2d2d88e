"""Simulated machines: harnesses with a folder and a machine name of their own, on one server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

LEASE_SECONDS = 10
DEADLINE = 240
HARNESS = f"""
import platform, sys, time
from pathlib import Path
machine, *arguments = sys.argv[1:]
platform.node = lambda: machine
told, told_ns, clock = time.time, time.time_ns, Path("clock")
def wrong():
    return float(clock.read_text()) if clock.exists() else 0.0
time.time = lambda: told() + wrong()
time.time_ns = lambda: told_ns() + int(wrong() * 1e9)
from harness.store.coordination import leases
leases.RENEW_SECONDS, leases.LEASE_SECONDS = 0.5, {LEASE_SECONDS}.0
from harness import sweep
sys.exit(sweep.main([*arguments, "--no-compare"]))
"""


class Machine:
    """A folder, and the harness that runs in it."""

    def __init__(
        self,
        folder: Path,
        server: str,
        file: str,
        monkeypatch: pytest.MonkeyPatch,
        options: Sequence[str] = (),
    ) -> None:
        (folder / "mlruns").mkdir(parents=True)
        (folder / "shared.yaml").write_text(file)
        self.folder = folder
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        command = [sys.executable, "-c", HARNESS, folder.name, "shared.yaml"]
        self.harness = subprocess.Popen(
            [*command, "--executor", "inline", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def set_clock(self, hours: float) -> None:
        partial = self.folder / "clock.new"
        partial.write_text(str(hours * 3600))
        partial.rename(self.folder / "clock")

    def ends(self) -> None:
        told, _ = self.harness.communicate(timeout=DEADLINE)
        assert self.harness.returncode == 0, told
