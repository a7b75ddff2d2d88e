"""Experiments in notebooks, in scripts without a guard, in interactive shells; and interrupted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "first_benchmark.ipynb"

NET = """
import harness
from torch import nn

FACTOR = 2

def scaled(outputs):
    return outputs * FACTOR

class Net(nn.Module):
    def __init__(self, data: harness.DataInfo, width: int = 4):
        super().__init__()
        self.layer = nn.Linear(data.features, data.outputs)

    def forward(self, batch):
        return scaled(self.layer(batch))
"""
RUN = """
results = harness.Experiment(
    "hosts",
    trial={"dataset": "logic_gate", "epochs": EPOCHS, "val_fraction": 0.0, "optimizer": "sgd"},
    grid={"model": [Net], "lr": [1], "seed": range(2)},
    metric="test/loss",
).run(**ARGUMENTS)
print("outcomes:", sorted(results.trials["outcome"]), set(results.trials["reason"]))
"""


def program(epochs: int = 2, **arguments: Any) -> str:
    run = RUN.replace("EPOCHS", str(epochs)).replace("ARGUMENTS", repr(arguments))
    return f"{NET}\n{run}"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}


def run_python(command: list[str], folder: Path, text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *command],
        input=text,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DONE = "outcomes: ['done', 'done'] {''}"


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["process", "ray"])
def test_a_script_needs_no_guard(tmp_path: Path, executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    (tmp_path / "script.py").write_text(program(executor=executor, workers=2))
    printed = run_python(["script.py"], tmp_path)
    assert printed.count("2 to run") == 1, "no worker starts the sweep again"
    assert DONE in printed


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_the_examples_of_the_documentation_run(tmp_path: Path, number: int) -> None:
    page = (REPOSITORY / "docs" / "python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    (tmp_path / "example.py").write_text(examples[number])
    assert "n = 2" in run_python(["example.py"], tmp_path)


@pytest.mark.slow
def test_a_data_set_of_the_script_reaches_the_workers(tmp_path: Path) -> None:
    """The worker knows no file of a class of the script."""
    blobs = (
        "import torch\n"
        "def blobs(n: int = 40):\n"
        "    targets = torch.arange(n) % 3\n"
        "    return torch.eye(3)[targets], targets\n"
    )
    run = program(executor="process", workers=2)
    run = run.replace('"dataset": "logic_gate"', '"dataset": blobs')
    (tmp_path / "script.py").write_text(blobs + run)
    assert DONE in run_python(["script.py"], tmp_path)


@pytest.mark.slow
def test_workers_that_are_spawned_get_the_classes_too(tmp_path: Path) -> None:
    """On macOS and Windows each worker is a new process."""
    spawn = (
        "import multiprocessing\n"
        "from harness.execution.executors import worker_start\n"
        "worker_start._context = lambda imports: multiprocessing.get_context('spawn')\n"
    )
    script = spawn + program(executor="process", workers=2)
    (tmp_path / "script.py").write_text(script)
    assert DONE in run_python(["script.py"], tmp_path)


@pytest.mark.slow
def test_an_interactive_shell_runs_it(tmp_path: Path) -> None:
    """Its source is not known to Python before 3.13: the bytecode counts."""
    text = program(executor="process", workers=2)
    blocks = re.sub(r"\n\n(?=    )", "\n", text).replace("\nFACTOR", "\n\nFACTOR")
    first, second = (run_python(["-i", "-q"], tmp_path, blocks + "\n") for _ in range(2))
    assert DONE in first
    assert "2 done; nothing to run" in second


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interruption_ends_it_and_the_next_run_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(program(epochs=200_000, executor="process", workers=2))
    with subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "training:" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(10)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert "Interrupted" in error
    script.write_text(program(executor="process", workers=2))
    assert DONE in run_python(["script.py"], tmp_path)


def execute(cells: list[str], folder: Path) -> list[Any]:
    """Runs cells in a kernel of their own. Returns the outputs of each."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return run_notebook(nbclient, notebook, folder)


def run_notebook(nbclient: Any, notebook: Any, folder: Path) -> list[Any]:
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment())
    return [cell.get("outputs", []) for cell in notebook.cells]


def text_of(outputs: Any) -> str:
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain") or str(output)
        for output in outputs
    )


@pytest.mark.slow
def test_the_notebook_of_the_documentation_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    outputs = run_notebook(nbclient, notebook, tmp_path)
    shown = [text_of(each) for each in outputs]
    errors = [o for each in outputs for o in each if o["output_type"] == "error"]
    assert not errors
    assert any("20/20 trials; 20 done" in text for text in shown)
    assert any("Net" in text and "test/accuracy" in text for text in shown)
    pages = [o["data"]["text/html"] for each in outputs for o in each if "text/html" in str(o)]
    assert any(page.startswith("<iframe") for page in pages)
    (run,) = [each for each, text in zip(outputs, shown, strict=True) if "20/20 trials" in text]
    assert len(text_of(run).splitlines()) < 12, "no flood of lines"


@pytest.mark.slow
def test_cells_that_are_edited_or_only_run_again(tmp_path: Path) -> None:
    run = RUN.replace("EPOCHS", "2").replace("ARGUMENTS", "{'executor': 'process', 'workers': 2}")
    commented = NET.replace("class Net", "# the net\nclass Net").replace("import harness\n", "")
    helper = "def scaled(outputs):\n    return outputs * FACTOR * 2"
    wrong = "harness.Experiment('hosts', trial={'dataset': 'digits', 'model': Net(3)})"
    outputs = execute([NET, run, NET, run, commented, run, helper, run, wrong], tmp_path)
    shown = [text_of(each) for each in outputs]
    assert DONE in shown[1]
    assert "nothing to run" in shown[3]
    assert "nothing to run" in shown[5]
    assert "2 trials; 2 to run" in shown[7]
    assert "the code of `Net` changed since 2 runs" in shown[7]
    shutil.rmtree(tmp_path / "mlruns")


@pytest.mark.slow
def test_an_error_in_a_notebook_has_no_traceback_of_ours(tmp_path: Path) -> None:
    wrong = "import harness\nharness.Experiment('hosts', trial={'dataset': 'digitz', 'lr': 1})"
    ((error,),) = execute([wrong], tmp_path)
    assert error["ename"] == "InputError"
    shown = "\n".join(error["traceback"])
    assert "trial.dataset: no 'digitz' is registered" in shown
    assert "Traceback" not in shown
    assert ".py" not in shown
