"""`--fail-fast`: the first trial that fails ends a sweep or a search, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import search, sweep
from tests.commands.test_sweep import runs, statuses

# So wide a layer passes validation and fails in torch, as a user's model would.
BROKEN = "{name: mlp, hidden: [1125899906842624]}"
FILE = f"""\
name: small
trial: {{dataset: iris, optimizer: sgd, epochs: 1}}
grid: {{model: [perceptron, {BROKEN}, mlp], lr: [0.1, 0.2]}}
artifacts: none
"""
SEARCH = """\
search:
  per: [model]
  trials: 1
  retrain_seeds: 1
  space: {batch_size: [16, 32]}
"""


@pytest.fixture
def project(workspace: Path) -> Path:
    (workspace / "small.yaml").write_text(FILE)
    (workspace / "search.yaml").write_text(FILE.replace("0.1, 0.2", "0.1") + SEARCH)
    return workspace


def run(*arguments: str) -> int:
    return sweep.main(["small.yaml", "--executor", "inline", "--no-compare", *arguments])


def test_a_sweep_ends_at_the_first_failure(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--fail-fast") == 1
    output, error = capsys.readouterr()
    assert statuses(project, "small") == {"FINISHED": 2, "FAILED": 1}
    first, second = error.strip().splitlines()
    assert first.startswith("error: stopped at the first failure: ")
    assert "mlp(hidden=[1125899906842624]) lr=0.1: " in first
    assert "RuntimeError" in first
    assert second == (
        "    3 of 6 trials ended; the same command trains the others, "
        "and with --retry-failed this one too"
    )
    assert "failed: " in output
    assert "Traceback" not in output + error
    (parent,) = runs(project, "small", "sweep")
    assert parent.info.status == "KILLED"  # type: ignore[attr-defined]

    assert run("lr=0.1", "--fail-fast") == 1  # It does not count again, and the rest trains.
    assert "1 to run" in capsys.readouterr().out
    assert statuses(project, "small") == {"FINISHED": 3, "FAILED": 1}


@pytest.mark.slow
def test_a_search_ends_at_the_first_failure(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search.yaml", "--executor", "inline", "--no-compare"]
    assert search.main([*command, "--fail-fast"]) == 1
    error = capsys.readouterr().err
    assert error.endswith("2 of 3 trials ended; the same command trains the others\n")
    assert statuses(project, "small") == {"FINISHED": 1, "FAILED": 1}
    assert search.main(command) == 1
    assert "1 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_what_trains_beside_the_failure_writes_a_checkpoint(project: Path) -> None:
    """A worker trains an endless trial, another one fails: the endless one resumes later."""
    trial = "trial: {dataset: iris, optimizer: sgd, lr: 0.1, epochs: 1000000, eval_every: 1000}\n"
    grid = f"grid: {{model: [perceptron, {BROKEN}]}}\nartifacts: none\n"
    (project / "two.yaml").write_text("name: two\n" + trial + grid)
    command = [sys.executable, "-m", "harness.sweep", "two.yaml", "--workers", "2", "--fail-fast"]
    done = subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "stopped at the first failure" in done.stderr.splitlines()[-2]
    assert statuses(project, "two") == {"FAILED": 1, "KILLED": 1}
    assert [path for path in (project / "mlruns").rglob("*") if path.suffix == ".pt"]
