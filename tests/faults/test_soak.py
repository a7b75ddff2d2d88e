"""A small soak test; `make soak` runs the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks import soak


@pytest.mark.slow
def test_a_sweep_killed_every_few_seconds_loses_and_repeats_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--trials", "400", "--every", "0.5", "--keep", str(tmp_path / "soak")]
    code = soak.main(arguments)
    told = capfd.readouterr().out
    assert code == 0, told
    assert "kills       0" not in told
