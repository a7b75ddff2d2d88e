"""A wait for a lock is told, with the process that holds it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core import files
from harness.core.files import file_lock

HOLD = """
import sys, time
from pathlib import Path
from harness.core.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_wait_names_the_process_and_ends_when_it_may(
    holder: subprocess.Popen[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(files, "QUIET_SECONDS", 0.05)
    with pytest.raises(TimeoutError), file_lock(tmp_path / "lock", timeout=0.2):
        pass
    assert str(tmp_path / "lock") in caplog.text
    if Path("/proc/locks").read_text():  # Some containers show no locks.
        assert f"waiting for process {holder.pid}, which holds" in caplog.text
    caplog.clear()
    with pytest.raises(TimeoutError), file_lock(tmp_path / "lock", timeout=0):
        pass
    assert caplog.text == "", "who does not wait says nothing"
    holder.communicate("go\n")
    with file_lock(tmp_path / "lock"):
        assert caplog.text == ""
