"""`python -m harness check` and `components FILE`: a user's components, and what each lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from harness import __main__, check
from harness.components.registry import activate

HEAD = """
import random
import numpy as np
import torch
from torch import nn
import harness
"""
NET = """
@harness.model
class Own(nn.Module):
    '''One layer.'''
    def __init__(self, data: harness.DataInfo, scale: float = 1.0):
        super().__init__()
        self.layer, self.scale = nn.Linear(data.features, data.outputs), scale
    def forward(self, x):
        return self.layer(x) * self.scale
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a file that names this code, and returns its exit code and its output."""
    monkeypatch.chdir(tmp_path)

    def ran(code: str, grid: str = "", command: str = "check own.yaml") -> tuple[int, str]:
        (tmp_path / "own_parts.py").write_text(HEAD + dedent(code))
        others = ["model: [mlp]", "optimizer: [sgd]"]
        others += ["dataset: [iris]"]
        axes = [grid, *(axis for axis in others if axis[:5] not in grid)]
        (tmp_path / "own.yaml").write_text(
            f"code: own_parts.py\ntrial: {{lr: 0.1}}\ngrid: {{{', '.join(filter(None, axes))}}}\n"
        )
        done = __main__.main(command.split())
        output, error = capsys.readouterr()
        activate(None)
        return done, output + error

    return ran


def test_a_component_that_lacks_nothing(run: Run) -> None:
    done, output = run(NET, "model: [own, {name: own, scale: 2.0}]")
    assert (done, output.splitlines()) == (
        0,
        [
            "model own on iris: 8 checks ok",
            "model own(scale=2) on iris: 8 checks ok",
            "2 components checked: nothing is lacking",
        ],
    )


def model(forward: str, init: str = "pass") -> str:
    """A model with these lines."""
    return NET.replace("return self.layer(x) * self.scale", forward).replace(
        "self.layer, self.scale = nn.Linear(data.features, data.outputs), scale",
        f"self.layer = nn.Linear(data.features, data.outputs)\n        {init}",
    )


MODELS = {
    "returns [6, 4] for 6 examples of [4]": model("return x + 0 * self.layer(x).sum()"),
    "returns [3] for 1 examples of [4]": model("return self.layer(x).squeeze()"),
    "returns a tuple for 6 examples": model("return self.layer(x), x"),
    "returns torch.float64; expected torch.float32": model("return self.layer(x).double()"),
    "forward changes its input in place": model("return self.layer(x.mul_(2))"),
    "two builds from one seed differ in layer.weight": model(
        "return self.layer(x)", "nn.init.constant_(self.layer.weight, random.random())"
    ),
    "no gradient reaches other.weight, other.bias": model(
        "return self.layer(x)", "self.other = nn.Linear(2, 2)"
    ),
    "in evaluation it gives other outputs the second time": model(
        "return self.layer(x) + torch.randn(1)"
    ),
    "with the weights of its state_dict it computes something else": model(
        "return self.layer(x) * self.factor", "self.factor = torch.randn(1)"
    ),
    "cannot be multiplied (6x4 and 5x3) (own_parts.py:16)": model(
        "return self.layer(x)", "self.layer = nn.Linear(5, 3)"
    ),
}
OPTIMIZER = """
@harness.optimizer
class Steps(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.lr, self.count = lr, 0
    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-RATE)
"""
OPTIMIZERS = {
    "a schedule has no effect": OPTIMIZER.replace("RATE", "self.lr"),
    "resumed from its state_dict it goes on otherwise": OPTIMIZER.replace(
        "self.count += 1", "self.counts = [*getattr(self, 'counts', []), 1]"
    ).replace("RATE", "group['lr'] / len(self.counts)"),
    "5 steps leave 0.weight, 0.bias, 2.weight, 2.bias as they were": OPTIMIZER.replace("RATE", "0"),
    "two runs on the same gradients differ": OPTIMIZER.replace(
        "RATE", "group['lr'] * random.random()"
    ),
}
CROSS_ENTROPY = "cross_entropy = nn.functional.cross_entropy\n"
LOSSES = {
    "returned a single number for 6 examples (own_parts.py:8)": "cross_entropy(outputs, targets)",
    "values that do not depend on the model's outputs": "0.0 * targets",
    "its gradient is zero: nothing would train": "(0 * outputs).sum(1)",
    "for outputs that are NaN: a trial that diverged": "outputs.square().sum(1).nan_to_num()",
}
METRICS = {
    "its direction is 'min', but a perfect prediction scores 1": (
        "(direction='min')",
        "(outputs.argmax(1) == targets).float().mean()",
    ),
    "it changes the outputs or the targets in place": (
        "(direction='max')",
        "(outputs.zero_().argmax(1) == targets).float().mean()",
    ),
    "the next time": ("(direction='max')", "random.random()"),
    "metric measure returned no number": ("(direction='max')", "outputs.argmax(1)"),
}
AUGMENTATIONS = {
    "changed the shape of a batch": "images[:, :, 1:]",
    "the same generator gives another result": "images + torch.randn(images.shape)",
    "it draws from Python's random": "images + 0 * random.random()",
    "it draws from numpy.random": "images + 0 * np.random.rand()",
    "it changes the batch in place": "images.add_(1)",
}
STEP = """
@harness.training_step
def step(model, batch, generator, noise: float = 0.1):
    inputs, targets = batch
    BODY
    outputs = model(inputs)
    losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
    return RESULT
"""
STEPS = {
    "it returns [6]; expected losses and outputs": ("", "losses"),
    "its losses are [] for 6 examples; expected [6]": ("", "(losses.mean(), outputs)"),
    "it returns a list; expected losses and outputs": ("", "[losses, outputs]"),
    "its losses do not depend on the model": ("", "(losses.detach(), outputs)"),
    "it changes the batch in place": ("inputs.mul_(2)", "(losses, outputs)"),
    "the same generator gives other losses": (
        "inputs = inputs + noise * torch.randn(inputs.shape)",
        "(losses, outputs)",
    ),
}
SCHEDULERS = {
    "built again, it gives other rates": "lr * random.random()",
    "its rate at t = 2 is -0.1": "lr - 0.1 * t",
    "(own_parts.py:": "lr / (t - 1)",
}
LACKING = [
    *(
        (
            "scheduler: [rates]",
            what,
            f"@harness.scheduler\ndef rates(lr, t):\n    return {value}\n",
        )
        for what, value in SCHEDULERS.items()
    ),
    *(
        ("training_step: [step]", what, STEP.replace("BODY", body).replace("RESULT", result))
        for what, (body, result) in STEPS.items()
    ),
    *(("model: [own]", what, code) for what, code in MODELS.items()),
    *(("optimizer: [steps]", what, code) for what, code in OPTIMIZERS.items()),
    *(
        (
            "loss: [cost]",
            what,
            f"{CROSS_ENTROPY}@harness.loss\ndef cost(outputs, targets):\n    return {value}\n",
        )
        for what, value in LOSSES.items()
    ),
    *(
        (
            "metrics: [[measure]]",
            what,
            f"@harness.metric{given}\ndef measure(outputs, targets):\n    return {value}\n",
        )
        for what, (given, value) in METRICS.items()
    ),
    *(
        ("", what, f"@harness.augmentation\ndef change(images, generator):\n    return {value}\n")
        for what, value in AUGMENTATIONS.items()
    ),
]


@pytest.mark.parametrize(("grid", "what", "code"), LACKING, ids=[what for _, what, _ in LACKING])
def test_what_is_lacking(run: Run, grid: str, what: str, code: str) -> None:
    done, output = run(code, grid)
    assert done == 1, output
    assert what in output
    assert "Traceback" not in output


NOTES = {
    "note: it cannot be pickled": model("return self.layer(x)", "self.f = lambda: 0"),
    "note: frozen: layer.bias": model(
        "return self.layer(x)", "self.layer.bias.requires_grad_(False)"
    ),
    "note: its trials train one by one, not as a stack: it reads a number from a tensor": model(
        "return self.layer(x) * x.sum().item()"
    ),
    "note: no gradient reaches these at the first step: layer.weight, layer.bias": model(
        "return self.layer(x) * self.gate + self.shift",
        "self.gate = nn.Parameter(torch.zeros(1)); self.shift = nn.Parameter(torch.zeros(3))",
    ),
    "note: its initial weights are the same with every seed": model(
        "return self.layer(x)", "nn.init.uniform_(self.layer.weight, generator=chance())"
    )
    .replace("@harness", "def chance():\n    return torch.Generator().manual_seed(3)\n@harness", 1)
    .replace(
        "nn.Linear(data.features, data.outputs)", "nn.Linear(data.features, data.outputs, False)"
    ),
    "note: it makes one draw for the whole batch": (
        "@harness.augmentation\ndef change(images, generator):\n"
        "    return images + torch.randn(1, generator=generator)\n"
    ),
    "note: the loss of an example depends on the others": (
        "@harness.loss\ndef cost(outputs, targets):\n"
        "    return outputs.square().sum(1) * outputs.mean()\n"
    ),
}


@pytest.mark.parametrize(("what", "code"), NOTES.items(), ids=list(NOTES))
def test_what_is_allowed_and_worth_knowing(run: Run, what: str, code: str) -> None:
    done, output = run(code, "model: [own]" if "nn.Module" in code else "")
    assert done == 0, output
    assert what in output


def test_a_training_step_that_lacks_nothing(run: Run) -> None:
    noise = "inputs = inputs + noise * torch.randn(inputs.shape, generator=generator)"
    code = STEP.replace("BODY", noise).replace("RESULT", "losses, outputs")
    done, output = run(code, "training_step: [none, step, {name: step, noise: 0.5}]")
    assert (done, output.splitlines()) == (
        0,
        [
            "training_step step of mlp on iris: 4 checks ok",
            "training_step step(noise=0.5) of mlp on iris: 4 checks ok",
            "2 components checked: nothing is lacking",
        ],
    )


def test_data_sets_of_ones_own(run: Run) -> None:
    code = """
    @harness.dataset(class_names=["low", "high"])
    def words(n: int = 40):
        x = torch.randint(0, 9, (n, 5), generator=torch.Generator().manual_seed(0))
        return x, (x[:, 0] > 4).long()

    @harness.dataset(class_names=["low", "middle", "high"])
    def numbers(n: int = 40):
        x = torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
        return x, (x[:, 0] > 0).long()

    @harness.model
    class Counts(nn.Module):
        def __init__(self, data: harness.DataInfo):
            super().__init__()
            self.words = nn.EmbeddingBag(data.tokens, data.outputs)
        def forward(self, x):
            return self.words(x)
    """
    done, output = run(code, "dataset: [words], model: [counts]")
    assert (done, output.splitlines()) == (
        0,
        [
            "model counts on words: 8 checks ok",
            "dataset words: 3 checks ok",
            "dataset numbers: 3 checks ok",
            "  note: no training example has the class high",
            "3 components checked: nothing is lacking",
        ],
    )


def test_an_error_that_fails_many_checks_is_told_once(run: Run) -> None:
    _, output = run(model("raise ValueError('no')"), "model: [own]")
    assert output.count("ValueError: no (own_parts.py:") == 1
    assert "(and 5 more checks)" in output


def test_components_that_no_trial_uses_are_checked_with_their_defaults(run: Run) -> None:
    needs = NET.replace("scale: float = 1.0", "scale: float")
    done, output = run(NET + needs.replace("class Own", "class Needs"))
    assert done == 0
    assert "model own on iris: 8 checks ok" in output
    assert "not checked: model needs: no trial uses it, and scale must be given" in output


def test_many_sets_of_options_are_not_all_checked(run: Run) -> None:
    values = ", ".join(f"{{name: own, scale: {n}.5}}" for n in range(8))
    done, output = run(NET, f"model: [{values}]")
    assert done == 0
    assert "3 components checked" in output
    assert "not checked: model own: 5 more sets of options" in output


@pytest.mark.parametrize(
    ("code", "grid", "what"),
    [
        ("import nothing_like_it", "", "own_parts.py:7: cannot be imported: ModuleNotFoundError"),
        ("def broken(:", "", "own_parts.py:7: is not valid Python"),
        (NET, "model: [owm]", "no 'owm' is registered"),
        (NET, "model: [{name: own, scale: big}]", "must be a number"),
    ],
)
def test_a_bad_file(run: Run, code: str, grid: str, what: str) -> None:
    done, output = run(code, grid)
    assert done == 2
    assert what in output
    assert "Traceback" not in output


def test_a_file_without_code_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("trial: {dataset: iris, model: mlp, optimizer: sgd, lr: 0.1}")
    assert check.main([str(path)]) == 0
    assert "names no code of its own: nothing to check" in capsys.readouterr().out


def test_components_of_a_file(run: Run) -> None:
    code = NET + "\nclass Plain(nn.Module):\n    'As it is.'\n    def __init__(self, inputs): ...\n"
    own = "  own: One layer.\n      scale = 1.0\n"
    done, output = run(code, 'model: [own, "own_parts.py:Plain"]', "components own.yaml")
    plain = "  own_parts.py:Plain: As it is.\n      inputs = must be given\n"
    assert (done, output) == (0, f"models\n{own}{plain}\n")
    done, output = run(code, "model: [owm]", "components own.yaml own")  # The rest may be wrong.
    assert (done, output) == (0, f"models\n{own}\n")
    done, output = run(code, "", "components own.yaml owm")
    assert done == 2
    assert "did you mean 'own'?" in output


def test_help_of_components(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["components", "--help"])
    assert ended.value.code == 0
    assert "python -m harness components" in capsys.readouterr().out
