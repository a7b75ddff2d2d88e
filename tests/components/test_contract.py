"""The contract of every component of every kind, whoever wrote it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.components.base import KINDS, SINGULAR, Component, Task
from harness.components.registry import components, find
from harness.experiment.trial import Choice

ALL = [
    pytest.param(component, id=f"{SINGULAR[kind]}-{component.name}")
    for kind in KINDS
    for component in components(kind).values()
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_components(kind) -> None:
    assert components(kind)


@pytest.mark.parametrize("component", ALL)
def test_describes_itself(component) -> None:
    assert component.description
    assert "\n" not in component.description
    assert not component.description.endswith(".")
    assert component.reference


@pytest.mark.parametrize("component", ALL)
def test_has_a_name_for_an_experiment_file(component) -> None:
    assert component.name.isidentifier()
    assert component.name == component.name.lower()
    assert find(component.kind, component.name) is component


@pytest.mark.parametrize("component", ALL)
def test_every_option_has_a_default_and_a_description(component) -> None:
    for name, field in component.options.model_fields.items():
        assert not field.is_required(), name
        assert field.description, name


@pytest.mark.parametrize("component", ALL)
def test_refuses_an_unknown_option(component) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        component.options.model_validate({"no_such_option": 1})


@pytest.mark.parametrize("component", ALL)
def test_tiny_options_round_trip_through_json(component) -> None:
    assert component.tiny or component.name == "timm", "timm is optional"
    for options in component.tiny:
        choice = Choice.of(component.kind, {"name": component.name, **options})
        resolved = json.loads(json.dumps(choice.resolved(), allow_nan=False))
        assert Choice.of(component.kind, resolved) == choice


def test_the_examples_of_the_documentation_are_components() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "adding-a-component.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        module: dict[str, Any] = {}
        exec(example, module)
        (component,) = module["COMPONENTS"]
        assert isinstance(component, Component)
        assert component.name not in components(component.kind), "write about another one"
        for options in component.tiny:
            component.options.model_validate(options)


def test_the_page_of_tasks_has_all_losses_and_metrics() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
    rows = [line.split("|")[1:-1] for line in page.read_text().splitlines() if "|" in line][2:]
    tasks = [re.findall(r"`(\w+)`", row[0])[0] for row in rows]
    assert tasks == [str(task) for task in (Task.MULTICLASS, Task.BINARY, *list(Task)[2:])]
    for task, (_, _, losses, metrics) in zip(tasks, rows, strict=True):
        for kind, cell in (("losses", losses), ("metrics", metrics)):
            first, _, others = cell.replace("those of `multiclass`", OF_CLASSES).partition(";")
            every: Any = components(kind).values()
            fitting = [component for component in every if task in component.tasks]
            defaults = sorted(c.name for c in fitting if task in c.default_for)
            assert re.findall(r"`(\w+)`", first) == defaults
            rest = sorted(c.name for c in fitting if c.name not in defaults)
            assert sorted(re.findall(r"`(\w+)`", others)) == rest


OF_CLASSES = "`cross_entropy`, `nll`, `perceptron`, `softmax_twice`"


def test_the_list_of_components_needs_no_heavy_library() -> None:
    """A grid is validated, and help is shown, without waiting for torch."""
    code = """
import sys
from harness.components.base import KINDS
from harness.components.registry import components
for kind in KINDS:
    for component in components(kind).values():
        component.options.model_json_schema()
print(*sorted({"torch", "torchvision", "sklearn", "pandas", "mlflow", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
