"""A sweep called from a script without a `__main__` guard."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import spawn
from pathlib import Path

import pytest

from harness.execution.executors.worker_start import without_main

EXPERIMENT = """
name: small
artifacts: none
trial:
  {dataset: iris, model: {name: mlp, hidden: [4]}, optimizer: sgd, epochs: 1, val_fraction: 0.3}
grid: {lr: [0.1, 0.01], seed: [0, 1]}
"""
SCRIPTS = {
    "main": """
from harness import sweep
print("once")
print("exit code", sweep.main(["experiments/small.yaml", "--workers", "2", "--no-compare"]))
""",
    "command": """
from harness.__main__ import main
print("once")
print("exit code", main(["sweep", "experiments/small.yaml", "--workers=2", "--no-compare"]))
""",
}


def test_workers_import_no_main_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(tmp_path / "script.py"), raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    told = set(spawn.get_preparation_data("worker"))
    assert "init_main_from_path" in told, "what multiprocessing does by itself"
    with without_main():
        told = set(spawn.get_preparation_data("worker"))
    assert not {key for key in told if key.startswith("init_main")}
    assert sys.modules["__main__"] is main


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_a_guard_runs_its_sweep_once(script: str, workspace: Path) -> None:
    (workspace / "experiments" / "small.yaml").write_text(EXPERIMENT)
    (workspace / "script.py").write_text(SCRIPTS[script])
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=workspace, capture_output=True, text=True, check=False
    )
    assert ran.stdout.count("once") == 1
    assert "4/4 trials; 4 done" in ran.stdout
    assert "exit code 0" in ran.stdout
    assert "Traceback" not in ran.stderr
