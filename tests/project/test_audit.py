from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from checks import audit

SOUND = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([SOUND, UNKNOWN], 0, "audit: 1 of 2 packages, 0 with known"),
        ([SOUND, BAD], 1, "b 2: PYSEC-1, fixed in 2.1"),
        ([UNKNOWN, UNKNOWN], 0, "audit skipped: the advisory service knows none of the 2"),
        ([], 0, "audit skipped"),
    ],
)
def test_what_was_not_audited_is_never_called_sound(
    packages: list[dict[str, object]], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.report(packages) == code
    assert told in capsys.readouterr().out


def test_no_answer_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip-audit itself, with nobody to ask."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "lock").write_text("numpy==2.0.0\n")
    assert audit.main([str(tmp_path / "lock")]) == 0
    assert "audit skipped: " in capsys.readouterr().out


def test_one_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(command: list[str], timeout: float, **_: object) -> None:
        assert timeout == audit.SECONDS
        raise subprocess.TimeoutExpired([sys.executable], timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert audit.main([]) == 0
    assert "audit skipped: no answer" in capsys.readouterr().out
