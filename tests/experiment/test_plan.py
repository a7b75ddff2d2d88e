"""The plan of an experiment: ids, names, order and skipped combinations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import run

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.components.base import Dataset
from harness.components.registry import components, find
from harness.core.errors import DataMissing, Problem
from harness.experiment.loading import load
from harness.experiment.plan import Plan, make_plan
from harness.experiment.trial import Fingerprint, Trial, make_config_id, make_trial_id
from tests.support import find_component

MakePlan = Callable[..., Plan]

FILE = """\
trial: {dataset: digits, scheduler: cosine}
grid:
  model: [mlp, {name: mlp, hidden: [8]}]
  optimizer: [sgd, {name: adam, eps: 1e-6}]
  lr: [1e-2, 0.1]
  seed: [0, 1]
skip:
  - {when: {optimizer: adam, lr: 0.1}, because: it diverges}
"""


@pytest.fixture
def plan_text(tmp_path: Path) -> MakePlan:
    def planned(content: str, *overrides: str, name: str = "grid.yaml") -> Plan:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return make_plan(load(path, overrides, tmp_path), tmp_path)

    return planned


@pytest.fixture
def fake_digits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The digits data set with a checksum that no file can change."""
    fake = replace(find_component(Dataset, "digits"), fingerprint=lambda options, root: "f" * 64)
    monkeypatch.setitem(components("datasets"), "digits", fake)
    find.cache_clear()
    yield
    find.cache_clear()


def test_grid_order_names_and_skips(plan_text: MakePlan) -> None:
    plan = plan_text(FILE)
    assert [planned.name for planned in plan.trials[:4]] == [
        "mlp(hidden=[24, 24]) sgd lr=0.01 seed=0",
        "mlp(hidden=[24, 24]) sgd lr=0.01 seed=1",
        "mlp(hidden=[24, 24]) sgd lr=0.1 seed=0",
        "mlp(hidden=[24, 24]) sgd lr=0.1 seed=1",
    ]
    assert plan.trials[-1].name == "mlp(hidden=[8]) adam lr=0.01 seed=1"
    assert dict(plan.trials[-1].axes) == {
        "model": "mlp(hidden=[8])",
        "optimizer": "adam",
        "lr": "0.01",
        "seed": "1",
    }
    assert (len(plan.trials), len(plan.skipped)) == (12, 4)
    assert plan.skipped[0].because == "it diverges"
    assert dict(plan.skipped[0].axes)["lr"] == "0.1"


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ("{}", ["mlp sgd lr=0.1 seed=0"]),
        ("{model.hidden: [[8], []]}", ["model.hidden=[8]", "model.hidden=[]"]),
        ("{augment: [none, [flip]]}", ["augment=none", "augment=[flip]"]),
        ("{grad_clip: [null, 1]}", ["grad_clip=none", "grad_clip=1"]),
    ],
)
def test_names(plan_text: MakePlan, grid: str, names: list[str]) -> None:
    trial = "trial: {dataset: digits, model: mlp, optimizer: sgd, lr: 0.1}\n"
    plan = plan_text(trial + f"grid: {grid}")
    assert [planned.name for planned in plan.trials] == names


def test_ids_are_hashes_of_the_trials(plan_text: MakePlan) -> None:
    """The plan assembles them from parts; `make_trial_id` is their definition."""
    for planned in plan_text(FILE, "augment=[flip]", "grad_clip=1").trials:
        identity = planned.trial.identity()
        assert planned.trial_id == make_trial_id(identity, planned.fingerprint)
        assert planned.config_id == make_config_id(identity, planned.fingerprint)
        del identity["seed"]
        assert planned.config_id == make_trial_id(identity, planned.fingerprint)


def test_ids_by_trial_and_config(plan_text: MakePlan) -> None:
    plan = plan_text(FILE)
    assert len({planned.trial_id for planned in plan.trials}) == 12
    assert len({planned.config_id for planned in plan.trials}) == 6


def test_ids_depend_neither_on_grid_order_nor_on_the_files_name(plan_text: MakePlan) -> None:
    head, _, rest = FILE.partition("grid:\n")
    axes, _, skip = rest.partition("skip:\n")
    turned = "".join(reversed(axes.splitlines(keepends=True))).replace("[0, 1]", "[1, 0]")
    other = plan_text(f"name: other\nskip:\n{skip}{head}grid:\n{turned}", name="other.yaml")
    ids = [planned.trial_id for planned in plan_text(FILE).trials]
    assert [planned.trial_id for planned in other.trials] != ids
    assert {planned.trial_id for planned in other.trials} == set(ids)


def test_ids_do_not_depend_on_how_a_value_is_written(plan_text: MakePlan) -> None:
    whole = "[{name: mlp, hidden: [24, 24], dropout: 0},"
    spelled = FILE.replace("[mlp,", whole).replace("1e-2", ".01")
    assert spelled.count("dropout") == spelled.count(".01") == 1
    assert [p.trial_id for p in plan_text(spelled).trials] == [
        p.trial_id for p in plan_text(FILE).trials
    ]


GOLDEN = ("dca8629fb0334e66", "407c58b827afa72c")


@pytest.mark.usefixtures("fake_digits")
def test_ids_stay_what_they_were(plan_text: MakePlan) -> None:
    """A change of these ids makes every stored trial run again: raise SEMANTICS_VERSION if that is
    meant, else correct the defaults."""
    planned = plan_text(FILE).trials[0]
    assert planned.fingerprint == Fingerprint("f" * 64)
    assert (planned.trial_id, planned.config_id) == GOLDEN


def test_adding_an_axis_value_keeps_the_other_ids(plan_text: MakePlan) -> None:
    before = {planned.trial_id for planned in plan_text(FILE).trials}
    after = {planned.trial_id for planned in plan_text(FILE, "seed=[0,1,2]").trials}
    assert before < after
    assert len(after) == 18


def test_trials_that_differ_only_in_where_their_data_lies_are_run_once(
    plan_text: MakePlan, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("x,y\n1,2\n3,4\n5,6\n", encoding="utf-8")
    data = [f"{{name: csv, path: {tmp_path / name}.csv, target: y}}" for name in ("a", "b")]
    plan = plan_text(
        f"trial: {{model: mlp, optimizer: sgd, lr: 0.1}}\ngrid: {{dataset: [{', '.join(data)}]}}"
    )
    assert len(plan.trials) == 1
    assert plan.skipped[0].because == f"the same trial as {plan.trials[0].name}"


def test_all_missing_files_are_named(plan_text: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Callable[..., str]:
        def fingerprint(options: object, root: Path) -> str:
            raise DataMissing(Problem(f"{name} is missing", hint=f"put it in {root}"))

        return fingerprint

    for name in ("digits", "iris"):
        fake = replace(find_component(Dataset, name), fingerprint=missing(name))
        monkeypatch.setitem(components("datasets"), name, fake)
    find.cache_clear()
    with pytest.raises(DataMissing) as raised:
        plan_text(
            "trial: {model: mlp, optimizer: sgd, lr: 0.1}\n"
            "grid: {dataset: [digits, iris], seed: [0, 1]}"
        )
    find.cache_clear()
    whats = [problem.what for problem in raised.value.problems]
    assert whats == ["digits is missing", "iris is missing"]


OPTIMIZERS = st.sampled_from(
    ["sgd", "adam", "{name: adamw, weight_decay: 0.1}", "{name: momentum, momentum: 0.5}"]
)
MODELS = st.sampled_from(["mlp", "{name: mlp, hidden: []}", "{name: mlp, activation: tanh}", "cnn"])
RATES = st.floats(1e-8, 1e3).map(repr)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    models=st.lists(MODELS, min_size=1, max_size=3, unique=True),
    optimizers=st.lists(OPTIMIZERS, min_size=1, max_size=3, unique=True),
    rates=st.lists(RATES, min_size=1, max_size=3, unique_by=float),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True),
    clip=st.sampled_from(["null", "1", "0.5"]),
)
def test_planned_trials_survive_being_written_and_read(
    plan_text: MakePlan,
    models: list[str],
    optimizers: list[str],
    rates: list[str],
    seeds: list[int],
    clip: str,
) -> None:
    axes = {"seed": map(str, seeds), "lr": rates, "model": models, "optimizer": optimizers}
    grid = "\n".join(f"  {name}: [{', '.join(values)}]" for name, values in axes.items())
    plan = plan_text(f"trial: {{dataset: digits, grad_clip: {clip}}}\ngrid:\n{grid}\n")
    expected = len(models) * len(optimizers) * len(rates) * len(seeds)
    assert len({planned.trial_id for planned in plan.trials}) == expected
    for planned in plan.trials:
        assert Trial.of(planned.trial.resolved()) == planned.trial


def test_planning_imports_no_heavy_library(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(FILE, encoding="utf-8")
    code = (
        "import sys\n"
        "from harness.experiment.loading import load\n"
        "from harness.experiment.plan import make_plan\n"
        f"make_plan(load({str(path)!r}))\n"
        "print({'torch', 'mlflow', 'sklearn', 'pandas', 'optuna'} & set(sys.modules))\n"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
