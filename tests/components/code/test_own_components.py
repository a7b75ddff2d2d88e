"""Components made of a user's classes and functions, and what is said of those that cannot be."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import nn

from harness.components import registry
from harness.components.base import DataInfo, Loss, Metric, Model, Optimizer, Task
from harness.components.registry import components, find
from harness.core.errors import InputError
from harness.experiment.experiment import Experiment
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.experiment.trial import Trial

INFO = DataInfo(Task.MULTICLASS, (4,), ("a", "b", "c"), outputs=3)

CODE = """
from typing import Annotated
import torch
from pydantic import Field
from torch import nn
import harness

@harness.model
class MyNet(nn.Module):
    '''Two layers.'''
    def __init__(self, data: harness.DataInfo, width: Annotated[int, Field(gt=0)] = 8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(data.features, width), nn.Linear(width, data.outputs))
    def forward(self, x):
        return self.layers(x)

@harness.model(name="factory")
def build(inputs: int, outputs: int):
    return nn.Linear(inputs, outputs)

@harness.optimizer
class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, scale: float = 1.0):
        super().__init__(params, {"lr": lr, "scale": scale})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad.sign(), alpha=-group["lr"] * group["scale"])

@harness.loss
def smooth(outputs, targets, smoothing: float = 0.1):
    return nn.functional.cross_entropy(
        outputs, targets, label_smoothing=smoothing, reduction="none")

@harness.metric(direction="max")
def hits(outputs, targets):
    return (outputs.argmax(1) == targets).float().mean()

class Base(nn.Module):
    pass

class Plain(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layer = nn.Linear(inputs, classes)
    def forward(self, x):
        return self.layer(x)

def no_module():
    return 3

def scalar(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)
"""

FILE = """
    name: own
    code: own_code.py
    trial: {dataset: iris, epochs: 1, lr: 0.1}
    grid:
      model: [my_net]
      optimizer: [sgd]
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    def written(experiment: str = FILE, code: str = CODE, name: str = "own_code.py") -> Path:
        (tmp_path / name).write_text(dedent(code))
        path = tmp_path / "own.yaml"
        path.write_text(dedent(experiment))
        return path

    yield written
    registry.activate(None)
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def chosen(experiment: Experiment, field: str) -> Any:
    trial = make_plan(experiment).trials[0].trial
    return getattr(trial, field)


def with_grid(**fields: str) -> str:
    fields = {"model": "my_net", "optimizer": "sgd"} | fields
    lines = "".join(f"      {name}: [{value}]\n" for name, value in fields.items())
    head, _, _ = FILE.partition("    grid:")
    return head + "    grid:\n" + lines


def test_a_decorated_model_has_options_and_is_built_for_the_data(write: Write) -> None:
    experiment = load(write(with_grid(model="{name: my_net, width: 5}")))
    choice = chosen(experiment, "model")
    assert isinstance(choice.component, Model)
    module = choice.component.build(choice.options, INFO, 3)
    assert [tuple(p.shape) for p in module.parameters()] == [(5, 4), (5,), (3, 5), (3,)]
    assert choice.component.description == "Two layers."


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("model", "{name: factory, inputs: $features, outputs: $outputs}", Model),
        ("model", '{name: "own_code.py:Plain", inputs: $features, classes: $classes}', Model),
        ("model", '{name: "torch.nn:Linear", in_features: 4, out_features: $classes}', Model),
        ("model", '{name: "torchvision.models:resnet18", num_classes: $classes}', Model),
        ("optimizer", "{name: sign_sgd, scale: 0.5}", Optimizer),
        ("optimizer", '{name: "torch.optim:AdamW", betas: [0.8, 0.9]}', Optimizer),
        ("loss", "{name: smooth, smoothing: 0.2}", Loss),
        ("loss", '{name: "torch.nn:CrossEntropyLoss", label_smoothing: 0.2}', Loss),
    ],
)
def test_classes_and_functions_are_components(
    write: Write, field: str, value: str, kind: type
) -> None:
    text = with_grid(**{field: value})
    assert isinstance(chosen(load(write(text)), field).component, kind)


def test_losses_are_one_value_an_example(write: Write) -> None:
    outputs, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = nn.functional.cross_entropy(outputs, targets, label_smoothing=0.2, reduction="none")
    for name in (
        "{name: smooth, smoothing: 0.2}",
        '{name: "torch.nn:CrossEntropyLoss", label_smoothing: 0.2}',
    ):
        choice = chosen(load(write(with_grid(loss=name))), "loss")
        torch.testing.assert_close(
            choice.component.build(choice.options)(outputs, targets), expected
        )


def test_a_loss_that_returns_a_scalar_is_told_with_its_line(write: Write) -> None:
    choice = chosen(load(write(with_grid(loss='"own_code.py:scalar"'))), "loss")
    with pytest.raises(InputError, match=r"own_code.py:\d+: .*a single number for 5 examples"):
        choice.component.build(choice.options)(torch.randn(5, 3), torch.zeros(5).long())


@pytest.mark.parametrize("cut", ["outputs.detach().sum(1)", "[1.0] * 5"])
def test_a_loss_that_has_no_gradient_is_told_with_its_line(write: Write, cut: str) -> None:
    code = CODE + f"\n@harness.loss\ndef cut(outputs, targets):\n    return {cut}\n"
    choice = chosen(load(write(with_grid(loss="cut"), code)), "loss")
    loss, targets = choice.component.build(choice.options), torch.zeros(5).long()
    with pytest.raises(
        InputError, match=r"own_code.py:\d+: loss cut returned (values that|a list)"
    ):
        loss(torch.randn(5, 3, requires_grad=True), targets)
    if "detach" in cut:
        assert len(loss(torch.randn(5, 3), targets)) == 5, "evaluation needs none"


def test_an_error_inside_a_metric_is_its_own(write: Write) -> None:
    code = CODE + "\n@harness.metric\ndef wrong(outputs, targets):\n    return outputs @ outputs\n"
    load(write(FILE.replace("lr: 0.1", "lr: 0.1, metrics: [accuracy, wrong]"), code))
    metric = find("metrics", "wrong")
    assert isinstance(metric, Metric)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        metric.compute(torch.ones(2, 3), torch.tensor([0, 1]))


def test_a_metric_is_recorded_like_any_other(write: Write) -> None:
    text = FILE.replace("lr: 0.1", "lr: 0.1, metrics: [accuracy, hits]")
    assert chosen(load(write(text)), "metrics") == ("accuracy", "hits")
    metric = find("metrics", "hits")
    assert isinstance(metric, Metric)
    assert metric.compute(torch.eye(3), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


def test_a_subclass_of_a_component_is_none_by_itself(write: Write) -> None:
    load(write(code=CODE + "\nclass Other(MyNet):\n    pass\n"))
    assert set(components("models")) >= {"my_net", "factory"}
    assert "other" not in components("models")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"model": "{name: my_net, widht: 3}"}, "did you mean 'width'"),
        ({"model": "{name: my_net, width: 0}"}, "greater than 0"),
        ({"model": "my_nett"}, "did you mean 'my_net'"),
        ({"model": '"own_code.py:Plane"'}, "did you mean 'Plain'"),
        ({"model": '"own_cod.py:Plain"'}, "did you mean 'own_code.py'"),
        ({"model": '"../own_code.py:Plain"'}, "outside the experiment file's folder"),
        ({"model": '"no_such_package:Net"'}, "no module 'no_such_package' is installed"),
        ({"model": "own_code.Plain"}, "own_code.py:Plain"),
        ({"loss": "{name: smooth, smoothing: big}"}, "must be a number"),
        ({"model": "{name: my_net, width: wide}"}, "width: must be an integer, given 'wide'"),
        (
            {"model": '{name: "own_code.py:Plain", inputs: $feature, classes: $classes}'},
            r"own.yaml:\d+: .*inputs: stands for nothing \(did you mean '\$features'",
        ),
        ({"model": "Plain"}, 'decorate it with @harness.model, or name it "own_code.py:Plain"'),
    ],
    ids=str,
)
def test_a_wrong_name_or_option_is_told(write: Write, grid: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write(with_grid(**grid)))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:\n", r"own_code.py:1: is not valid Python"),
        ("x = 1\nimport no_such_package\n", r"own_code.py:2: cannot be imported: ModuleNotFound"),
        ("x = 1\n\n1 / 0\n", r"own_code.py:3: cannot be imported: ZeroDivisionError"),
        ("import sys\nsys.exit(2)\n", r"own_code.py:2: cannot be imported: SystemExit"),
        (
            CODE.replace("class MyNet", "class Mlp"),
            r"(?s)models are registered as 'mlp', the second by own_code.py:\d+.*another name",
        ),
        (CODE + CODE, r"own_code.py:\d+: MyNet is defined in line \d+ too"),
        ("from .blocks import x\n", r"(?s)own_code.py:1: .*relative import.*from blocks import"),
        (
            "import harness\nx = harness.loss(lambda a, b: a)\n",
            "own_code.py:2: a lambda has no name",
        ),
        (
            "import harness\n@harness.model(nme='x')\ndef f(): ...\n",
            r"(?s)own_code.py:2: .*'nme', which is unknown.*did you mean 'name'",
        ),
        (
            "import harness\n@harness.metric\ndef f(y_true, y_pred): ...\n",
            r"(?s)own_code.py:2: the first parameter of f is 'y_true'.*outputs come first",
        ),
        (
            "import harness\n@harness.loss\ndef f(outputs): ...\n",
            r"own_code.py:2: f must take two tensors, and takes 1",
        ),
    ],
    ids=[
        "syntax",
        "import",
        "exception",
        "exit",
        "name taken",
        "defined twice",
        "relative import",
        "lambda",
        "wrong keyword",
        "targets first",
        "one parameter",
    ],
)
def test_a_file_that_cannot_be_run_is_told_with_its_line(
    write: Write, code: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(write(code=code))


def test_what_a_function_returns_is_checked(write: Write) -> None:
    choice = chosen(load(write(with_grid(model='"own_code.py:no_module"'))), "model")
    with pytest.raises(InputError, match=r"own_code.py:\d+: .*a int, and not a torch.nn.Module"):
        choice.component.build(choice.options, INFO, 3)


def ids(path: Path) -> list[str]:
    return [planned.trial_id for planned in make_plan(load(path)).trials]


def test_code_is_a_part_of_the_id(write: Write) -> None:
    text = with_grid(model="my_net, mlp")
    own, shipped = ids(write(text))
    assert ids(write(text, CODE + "# a comment\n")) == [own, shipped]
    changed, same = ids(write(text, CODE.replace("= 8", "= 9")))
    assert changed != own
    assert same == shipped


def test_a_moved_file_leaves_the_id(write: Write, tmp_path: Path) -> None:
    before = ids(
        write(
            with_grid(model='"own_code.py:Plain"')
            .replace('Plain"', 'Plain"')
            .replace(
                '["own_code.py:Plain"]', '[{name: "own_code.py:Plain", inputs: 4, classes: 3}]'
            )
        )
    )
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "renamed.py").write_text(CODE)
    after = ids(write(with_grid(model='{name: "nets/renamed.py:Plain", inputs: 4, classes: 3}')))
    assert after == before


def test_a_trial_takes_its_code_along(write: Write) -> None:
    """As it is sent to a worker process, which has no code yet."""
    experiment = load(write(with_grid(model='my_net, "own_code.py:Base"')))
    trials = [planned.trial for planned in make_plan(experiment).trials]
    sent = pickle.dumps(trials)
    registry.activate(None)
    received: list[Trial] = pickle.loads(sent)
    assert [t.model.resolved() for t in received] == [t.model.resolved() for t in trials]
    assert registry.active_code() == experiment.code


def test_changed_code_is_refused_by_a_worker(write: Write) -> None:
    """A worker that starts in the middle of a sweep must not train another model."""
    trial = make_plan(load(write())).trials[0].trial
    sent = pickle.dumps(trial)
    registry.activate(None)
    write(code=CODE.replace("= 8", "= 9"))
    with pytest.raises(InputError, match="the code of my_net has changed"):
        pickle.loads(sent)


def test_only_what_a_file_names_is_loaded(write: Write, tmp_path: Path) -> None:
    """A name that comes from elsewhere, as from a store, leads to no code."""
    load(write())
    canary = tmp_path / "canary.py"
    canary.write_text("open('loaded', 'w').close()\n")
    for name in ("canary.py:Net", "own_code.py:Plain", "this:s"):
        with pytest.raises(InputError, match="is registered"):
            find("models", name)
    assert "this" not in sys.modules


def test_a_file_without_code_has_none_of_the_file_before(write: Write) -> None:
    load(write())
    assert "my_net" in components("models")
    load(
        write(
            "name: other\ntrial: {dataset: iris, epochs: 1}\n"
            "grid: {model: [mlp], optimizer: [sgd], lr: [0.1]}\n"
        )
    )
    assert "my_net" not in components("models")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("3", "must be text or must be a list"),
        ("[net.py, 3]", "must be text"),
        (".", "names no file that ends in .py"),
        ("a b", "names no file that ends in .py"),
        ('"net.py:Net"', "code: takes the whole file or module, net.py"),
        ('"torch.optim:SGD"', "code: takes the whole file or module, torch.optim"),
        ("nul.py", "nul.py: is not valid Python"),
        ("deep.py", "deep.py:1: is not valid Python"),
        ("nested", "no module 'nested' is installed"),
    ],
)
def test_an_entry_that_is_no_code_is_told(tmp_path: Path, code: str, told: str) -> None:
    (tmp_path / "net.py").write_text("")
    (tmp_path / "nul.py").write_bytes(b"x = '\0'\n")
    (tmp_path / "deep.py").write_text("x = " + "(" * 9999 + ")" * 9999)
    path = tmp_path / "x.yaml"
    path.write_text(f"trial: {{dataset: iris, lr: 0.1}}\ncode: {code}\n")
    with pytest.raises(InputError) as refused:
        load(path)
    assert told in str(refused.value)
    with pytest.raises(InputError):
        load(path, [f"code={code}"])


def test_an_override_of_the_code_is_the_code_that_runs(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("raise RuntimeError('it ran')")
    (tmp_path / "second.py").write_text(
        "import harness\n@harness.model\ndef second(data: harness.DataInfo): ...\n"
    )
    path = tmp_path / "x.yaml"
    path.write_text(
        "trial: {dataset: iris, model: second, optimizer: sgd, lr: 0.1}\ncode: first.py\n"
    )
    experiment = load(path, ["code=second.py"])
    assert list(experiment.source.identities) == ["second.py"]


def test_a_folder_of_many_files_is_not_listed(write: Write, tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"other_{number}.py").touch()
    path = write(FILE.replace("own_code.py", "own_cod.py"))
    with pytest.raises(InputError) as told:
        load(path)
    assert "did you mean 'own_code.py'?" in str(told.value)
    assert "other_1.py" not in str(told.value)
