"""Sweeps of a user's own code: what changes their trials, what they say, and what runs it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from harness import compare, predict, sweep
from harness.components import registry
from harness.store import names
from harness.store.read.results import read_results
from harness.store.read.stored_plans import last_plan
from harness.store.store import Store, open_store

FILE = """\
name: mine
code: net.py
trial: {dataset: iris, optimizer: sgd, lr: 0.1, epochs: 1}
grid: {model: [net, perceptron], seed: [0, 1]}
artifacts: none
"""
NET = '''\
"""A net."""
import harness
import packaged
from blocks import activation
from torch import nn

@harness.model
class Net(nn.Sequential):
    def __init__(self, data: harness.DataInfo, width: int = 4):
        super().__init__(
            nn.Flatten(), nn.Linear(data.features, width), activation(),
            nn.Linear(width, data.outputs),
        )
'''
BLOCKS = "from torch import nn\n\ndef activation():\n    return nn.ReLU()\n"
QUIETLY = ("--executor", "inline", "--no-compare")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A project whose sweep of `mine.yaml` is over, and an installed package "packaged" 1.0."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    (folder / "mine.yaml").write_text(FILE)
    (folder / "net.py").write_text(NET)
    (folder / "blocks.py").write_text(BLOCKS)
    installed = folder / "site-packages"
    installed.mkdir()
    (installed / "packaged.py").write_text("")
    install(folder, "1.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(installed))
        assert sweep.main(["mine.yaml", *QUIETLY]) == 0
        yield folder
    registry.activate(None)
    for name in ("net", "blocks", "packaged"):
        sys.modules.pop(name, None)


def install(folder: Path, version: str) -> None:
    """Makes this the version of the installed package."""
    for old in (folder / "site-packages").glob("packaged-*"):
        shutil.rmtree(old)
    info = folder / "site-packages" / f"packaged-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: packaged\nVersion: {version}\n")


@pytest.fixture
def restored(project: Path) -> Iterator[Path]:
    """The project; its files are put back afterwards."""
    before = {name: (project / name).read_text() for name in ("mine.yaml", "net.py", "blocks.py")}
    yield project
    for name, text in before.items():
        (project / name).write_text(text)
    install(project, "1.0")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def to_run(capsys: pytest.CaptureFixture[str]) -> str:
    """What a dry run of the sweep lists."""
    assert sweep.main(["mine.yaml", "--dry-run"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("net.py", "import harness\n", "import harness  # the benchmark\n\n\n", True),
        ("net.py", '"""A net."""', '"""My first net."""', True),
        ("net.py", "width: int = 4", "width: int = 8", False),
        ("blocks.py", "    return", "    # Simple.\n    return", True),
        ("blocks.py", "ReLU", "Tanh", False),
    ],
    ids=["comment", "docstring", "code", "comment of a helper", "helper"],
)
def test_only_what_runs_is_a_part_of_the_id(
    restored: Path, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str, same: bool
) -> None:
    before = to_run(capsys)
    edit(restored / name, old, new)
    after = to_run(capsys)
    assert (after == before) == same
    unchanged = [line for line in before.splitlines() if "perceptron" in line]
    assert len(unchanged) == 2
    assert set(unchanged) <= set(after.splitlines()), "another model has the ids that it had"


def test_another_version_of_an_installed_package_is_other_code(
    restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = to_run(capsys)
    assert "code that a sweep runs: net.py (with blocks.py, packaged 1.0)" in before
    install(restored, "1.1")
    after = to_run(capsys)
    assert "packaged 1.1" in after
    assert before.splitlines()[0] != after.splitlines()[0]


def test_moving_the_file_changes_no_id(restored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = to_run(capsys)
    nets = restored / "nets"
    nets.mkdir()
    for name in ("net.py", "blocks.py"):
        shutil.copy(restored / name, nets / name)
    edit(restored / "mine.yaml", "code: net.py", "code: nets/net.py")
    after = to_run(capsys)
    shutil.rmtree(nets)
    assert before.splitlines()[:4] == after.splitlines()[:4]


def open_project() -> Store:
    return open_store(Path())


def test_the_source_and_the_identities_are_stored(project: Path) -> None:
    store = open_project()
    results = read_results(store, "mine")
    text = (project / "mlruns/artifacts" / results.parent_id / "artifacts/code.json").read_text()
    stored = json.loads(text)
    assert stored["files"]["blocks.py"]["text"] == BLOCKS
    assert stored["packages"] == ["packaged==1.0"]
    (identity,) = stored["identities"].values()
    codes = results.trials.set_index("model")["code"]
    assert set(codes["net"]) == {json.dumps({"model": {"net": identity}})}
    assert set(codes["perceptron"]) == {""}
    run = store.run(results.trials["run_id"].iloc[0])
    assert not [name for name in run.data.params if "code" in name], "Compare has no axis of it"


FAILS = "raise RuntimeError('it ran')\n"


def test_comparing_a_file_runs_no_code(restored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (restored / "net.py").write_text(FAILS)
    assert compare.main(["mine.yaml"]) == 0
    out, told = capsys.readouterr()
    assert "4 trials (4 done) of 2 configs" in out
    assert "the code of net.py has changed since" in told
    edit(restored / "mine.yaml", "seed: [0, 1]", "seed: [0]")
    assert compare.main(["mine.yaml"]) == 0
    out, told = capsys.readouterr()
    assert "4 trials (4 done) of 2 configs" in out
    assert "its file has changed since" in told


def plan_run() -> str:
    """The run that has the plan of the file as it is."""
    stored = last_plan(open_project(), "mine", sha256(Path("mine.yaml").read_bytes()).hexdigest())
    assert stored is not None
    return stored.run_id


def test_comparing_an_unchanged_file_says_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(["mine.yaml"]) == 0
    assert capsys.readouterr().err == ""


def net_run() -> str:
    trials = read_results(open_project(), "mine").trials
    return str(trials[trials["model"] == "net"]["run_id"].iloc[0])


def test_predict_asks_for_the_file_that_names_the_code(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([net_run()]) == 2
    told = capsys.readouterr().err
    assert "was trained with code of yours: `net`" in told
    assert "--experiment FILE" in told


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("net.py", FAILS, "net.py has changed"),
        ("blocks.py", FAILS, "blocks.py has changed"),
        ("net.py", NET.replace("from blocks import activation", FAILS), "blocks.py is no longer"),
        ("net.py", "def :", "is not valid Python"),
        ("mine.yaml", FILE.replace("net.py", "other.py"), "no file other.py"),
        ("mine.yaml", FILE.replace("code: net.py\n", ""), "net.py is no longer used"),
    ],
)
def test_predict_says_what_differs_and_runs_nothing(
    restored: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, told: str
) -> None:
    run_id = net_run()
    (restored / name).write_text(text)
    assert predict.main([run_id, "--experiment", "mine.yaml"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert f"the code of `net` is not what run {run_id} was trained with" in error
    assert "its source is stored: code.json" in error
    assert "it ran" not in error
    assert "Traceback" not in error


def test_predict_says_which_package_differs(
    restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(restored, "2.0")
    assert predict.main([net_run(), "--experiment", "mine.yaml"]) == 2
    assert "packaged is 2.0, and was 1.0" in capsys.readouterr().err


def test_a_file_whose_plan_is_damaged_is_compared_by_name(
    restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, parent = open_project(), plan_run()
    before = (restored / "mlruns/artifacts" / parent / "artifacts/plan.json").read_text()
    store.attach(parent, names.PLAN_FILE, '{"trials": {"../../up": "\x1b[2J"}}')
    assert compare.main(["mine.yaml"]) == 0
    told = capsys.readouterr().err
    store.attach(parent, names.PLAN_FILE, before)
    assert "comparing all trials of 'mine'" in told
    assert f"plan.json of run {parent} is no plan" in told
    assert "\x1b" not in told


def test_a_sweep_says_what_changed_and_compares_only_what_did_not(
    restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(restored / "blocks.py", "ReLU", "Tanh")
    assert sweep.main(["mine.yaml", "--executor", "inline"]) == 0
    told = capsys.readouterr().out
    assert "running code: net.py (with blocks.py, packaged 1.0)" in told
    assert "the code of `net` changed since 2 runs: they are kept, and not compared" in told
    assert "4 trials; already in the store: 2 done; 2 to run" in told
    assert "4 trials (4 done) of 2 configs" in told
    assert compare.main(["mine", "--format", "json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["experiments"]
    rows = report["leaderboard"]["rows"]
    assert [row["trials"] for row in rows] == [2, 2, 2], "never averaged"
    models = {row["fields"]["model"] for row in rows}
    assert {model.partition(" @ ")[0] for model in models} == {"net", "perceptron"}
    assert len(models) == 3
    versions = report["overview"]["versions"]
    assert [version["of"] for version in versions] == ["code", "code"]
    assert [version["current"] for version in versions] == [False, True]


@pytest.mark.slow
def test_predict_runs_code_that_is_as_it_was(
    restored: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of all that the file names after `code:`, only what the run was trained with."""
    assert sweep.main(["mine.yaml", "artifacts=all", "seed=7", *QUIETLY]) == 0
    trials = read_results(open_project(), "mine").trials
    run_id = trials[(trials["model"] == "net") & (trials["seed"] == 7)]["run_id"].item()
    (restored / "other.py").write_text(FAILS)
    edit(restored / "mine.yaml", "code: net.py", "code: [other.py, net.py]")
    edit(restored / "net.py", '"""A net."""', "# A net.")
    command = [run_id, "--output", str(tmp_path), "--experiment", "mine.yaml"]
    registry.activate(None)
    assert predict.main(command) == 0
    assert (tmp_path / "predictions.csv").is_file()
    (restored / "other.py").unlink()
