"""Code runs if the experiment file in hand names it, from beside or below it or from an installed
module. What a store names never runs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from harness import compare, doctor, predict, search, sweep
from harness.components import registry
from harness.components.code import source
from harness.components.code.snapshot import CodeSnapshot
from harness.core.errors import HarnessError, InputError
from harness.experiment.loading import load
from harness.experiment.plan import make_plan as plan_of_file
from harness.experiment.trial import COMPONENT_FIELDS, Trial
from harness.store import names
from harness.store.store import Store, open_store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, digits, done, make_plan
from tests.stored import add, trial_run

CANARY = "from pathlib import Path\nPath(__file__).with_name('it-ran').touch()\n"
FILE = """\
name: test
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 1}
artifacts: none
"""
NET = """\
import harness
from torch import nn

@harness.model
class Net(nn.Sequential):
    def __init__(self, data: harness.DataInfo):
        super().__init__(nn.Flatten(), nn.Linear(data.features, data.outputs))
"""
QUIETLY = ("--executor", "inline")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A project beside whose files, and on whose path, lies `canary.py`, which makes a file when it
    is imported. Everything in its store names it."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    (folder / "canary.py").write_text(CANARY)
    (folder / "plain.yaml").write_text(FILE)
    (folder / "armed.yaml").write_text(FILE.replace("perceptron", '"canary.py:Net"'))
    (folder / "listed.yaml").write_text(FILE + "code: [canary.py]\n")
    (folder / "net.py").write_text(NET)
    (folder / "own.yaml").write_text(FILE.replace("perceptron", "net") + "code: net.py\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        fill(open_store(folder))
        yield folder
    registry.activate(None)
    for name in ("canary", "net"):
        sys.modules.pop(name, None)


def armed_pickle() -> bytes:
    """A file of torch that leads to the canary when it is unpickled."""
    module = ModuleType("canary")
    module.Net = type("Net", (), {"__module__": "canary"})  # type: ignore[attr-defined]
    sys.modules["canary"] = module
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2), "extra": module.Net()}, buffer)
    del sys.modules["canary"]
    return buffer.getvalue()


def fill(store: Store) -> None:
    plan = make_plan([digits(), digits(seed=1)])
    with SweepWriter(store, plan, GOAL) as writer:
        run_ids = {writer.run_id}
        for planned in plan.trials:
            run_ids |= {writer.record(planned, record).run_id for record in done()}
    for run_id in run_ids:
        poison(store, run_id)
    foreign = trial_run(0.9, seed=2)
    foreign.params.update(model="canary.py:Net", optimizer="canary:Net", metrics="[canary:hits]")
    add(store, "test", [foreign], begin=1)
    data = armed_pickle()
    sealed = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
    experiment_id = store.experiment("test")
    ids = [plan_of_file(load(name)).trials[0].trial_id for name in ("plain.yaml", "own.yaml")]
    for path in (
        *(store.outbox(experiment_id) / f"{trial_id}.trial" for trial_id in ids),
        *(store.checkpoints(experiment_id) / i / "000001-000000000.pt" for i in ids),
        store.pending_outputs(experiment_id) / f"{ids[0]}.run1.pt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sealed)
    registry.activate(None)


def poison(store: Store, run_id: str) -> None:
    resolved = digits().resolved()
    for field in COMPONENT_FIELDS:
        resolved[field] = {"name": "canary:Net", "width": 4}
    resolved |= {"model": {"name": "canary.py:Net"}, "metrics": ["canary:hits", "accuracy"]}
    codes = {"model": {"canary.py:Net": "00"}, "optimizer": {"canary:Net": "00"}, "..": "/"}
    for name, value in {
        names.TAG_TRIAL: json.dumps(resolved),
        names.TAG_CODE: json.dumps(codes),
        names.TAG_METRIC: "val/canary:hits",
        names.TAG_PLAN: "canary:Net",
        names.TAG_ARTIFACTS: names.ARTIFACTS_COMPLETE,
    }.items():
        store.set_tag(run_id, name, value)
    store.client.log_metric(run_id, "best/val/canary:hits", 0.5)
    snapshot = {"format": 1, "identities": {"canary.py": "00", "canary": "00"}}
    files = {names.CODE_FILE: json.dumps(snapshot), "MLmodel": "loader_module: canary\n"}
    for name, text in files.items():
        store.attach(run_id, name, text)
    weights = Path("weights")
    weights.mkdir(exist_ok=True)
    data = armed_pickle()
    (weights / "state_dict.pt").write_bytes(data)
    told = hashlib.sha256(data).hexdigest()
    (weights / "state_dict.pt.sha256").write_text(f"{told}  state_dict.pt\n")
    store.client.log_artifacts(run_id, "weights", "weights")


def test_the_canary_sings(project: Path) -> None:
    """Else the tests below could not fail."""
    assert not (project / "it-ran").exists(), "an import during collection would hide later ones"
    load("listed.yaml")
    assert (project / "it-ran").exists()
    (project / "it-ran").unlink()
    sys.modules.pop("canary", None)
    registry.activate(None)
    source._load_file.cache_clear()


COMMANDS = {
    "compare by name": (compare, "test"),
    "compare a score": (compare, "test", "--metric", "val/canary:hits", "--by", "model"),
    "report": (compare, "test", "--section", "all", "--html", "report.html"),
    "compare a file": (compare, "plain.yaml"),
    "compare a file with code": (compare, "armed.yaml"),
    "compare a file with code: …": (compare, "listed.yaml"),
    "doctor": (doctor, "--only", "store"),
    "doctor that repairs": (doctor, "--only", "store", "--fix"),
    "predict the best": (predict, "test"),
    "predict with a file": (predict, "test", "--experiment", "own.yaml"),
    "sweep": (sweep, "plain.yaml", *QUIETLY),
    "sweep of other code": (sweep, "own.yaml", *QUIETLY),
    "search": (search, "plain.yaml", "search.trials=1", "search.space={lr: [1, 2]}", *QUIETLY),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_no_command_runs_what_a_store_names(
    project: Path, command: tuple[ModuleType, *tuple[str, ...]], capfd: pytest.CaptureFixture[str]
) -> None:
    module, *arguments = command
    assert module.main(arguments) in (0, 1, 2)
    out, told = capfd.readouterr()
    assert "Traceback" not in out + told
    assert not (project / "it-ran").exists()
    assert "canary" not in sys.modules


def test_a_trial_of_a_store_finds_no_code_that_the_file_does_not_name(project: Path) -> None:
    """Also where another file's code is known, as in a sweep's workers."""
    load("own.yaml")
    for reference in ("canary.py:Net", "canary:Net", "net.py:Net", "net:Net"):
        resolved = digits().resolved() | {"model": {"name": reference}}
        with pytest.raises(InputError, match="is registered"):
            Trial.of(resolved)
    assert not (project / "it-ran").exists()
    registry.activate(None)


@pytest.mark.parametrize("field", sorted(COMPONENT_FIELDS))
@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "canary.Net", "torchvision:os.system"]
)
def test_a_name_without_a_colon_never_leads_to_code(project: Path, field: str, name: str) -> None:
    for given in (name, f"{{name: '{name}'}}"):
        with pytest.raises(InputError, match=name.rpartition(":")[2]):
            load("plain.yaml", [f"trial.{field}={given}"])
    assert not (project / "it-ran").exists()


@pytest.fixture
def outside(project: Path) -> Iterator[Path]:
    """A folder below the project, so that the canary lies outside it, with a file and links."""
    folder = project / "inner"
    folder.mkdir()
    (folder / "link.py").symlink_to(project / "canary.py")
    (folder / "below").symlink_to(project)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "entry",
    ["../canary.py", "{project}/canary.py", "link.py", "below/canary.py", "a/../../canary.py"],
)
@pytest.mark.parametrize("way", ["code", "model"])
def test_a_file_outside_the_experiment_file_s_folder_is_refused(
    project: Path, outside: Path, entry: str, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = entry.format(project=project)
    text = (
        FILE + f"code: {entry}\n" if way == "code" else FILE.replace("perceptron", f'"{entry}:Net"')
    )
    path = outside / "x.yaml"
    path.write_text(text)
    for command in (sweep, search):
        assert command.main([str(path), "--dry-run"]) == 2
        assert "outside the experiment file's folder" in capsys.readouterr().err
    assert not (project / "it-ran").exists()


HOSTILE = {
    "format": 1,
    "identities": {"../../up.py": "00"},
    "files": {},
    "packages": ["\x1b[2J==1"],
}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 99_999, '{"format": 1, "files": {"x": {"digest": "../up", "text": ""}}}'],
)
def test_a_stored_source_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(HarnessError) as refused:
        CodeSnapshot.parse(text)
    assert 0 < len(str(refused.value)) < 300


def test_a_stored_source_is_only_text() -> None:
    assert CodeSnapshot.parse(json.dumps(HOSTILE)).identities == {"../../up.py": "00"}
