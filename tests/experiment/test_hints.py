"""Hints: each usual mistake is answered with the way out."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from harness.components.base import Options
from harness.core.errors import closest
from harness.experiment.reading.validation import option_messages
from tests.experiment.experiment_support import Problems

GOOD = """\
name: x
trial:
  dataset: digits
  model: mlp
  optimizer: sgd
  lr: 0.1
"""
SPACE = "search:\n  space: {lr: {low: 0.1, high: 1}}\n"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("val_acc", "val/accuracy"),
        ("val_loss", "val/loss"),
        ("valid_loss", "val/loss"),
        ("validation/accuracy", "val/accuracy"),
        ("dev acc", "val/accuracy"),
        ("eval-f1", "val/f1"),
        ("acc", "val/accuracy"),
        ("accuracy", "val/accuracy"),
        ("loss", "val/loss"),
        ("test_acc", "test/accuracy"),
        ("train.loss", "train/loss"),
        ("Val_Accuracy", "val/accuracy"),
        ("roc_auc", "val/roc_auc"),
    ],
)
def test_a_metric_as_other_tools_write_it(problems: Problems, given: str, meant: str) -> None:
    (problem,) = problems(GOOD + f"metric: {given}\n")
    assert problem.hint.startswith(f"did you mean '{meant}'?")
    (problem,) = problems(GOOD + f"expect: [{{metric: {given}, value: 1, tolerance: 1}}]\n")
    assert problem.hint.startswith(f"did you mean '{meant}'?")
    (problem,) = problems(GOOD + SPACE + f"  also: [{given}]\n")
    assert problem.what == f"search.also[0]: unknown objective {given!r}"
    assert problem.hint.startswith(f"did you mean '{meant}'?")


BELONGS = " belongs in `trial:` with one value, or in `grid:` with a list of values"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("seed: 3\n", "seed: unknown field", "seed" + BELONGS),
        ("epochs: [3]\n", "epochs: unknown field", "epochs" + BELONGS),
        ("optimizer.eps: 3\n", "optimizer.eps: unknown field", "optimizer.eps" + BELONGS),
        ("batchsize: 3\n", "batchsize: unknown field", "batch_size" + BELONGS),
        (
            "weight_decay: 0.1\n",
            "weight_decay: unknown",
            "did you mean 'optimizer.weight_decay'? It",
        ),
        ("per: [optimizer]\n", "per: unknown field", "per belongs in `search:`"),
        ("trials: 3\n", "trials: unknown field", "trials belongs in `search:`"),
        ("  metric: val/loss\n", "trial.metric:", "metric belongs at the top level"),
        ("  trials: 3\n", "trial.trials:", "trials belongs in `search:`"),
        ("  weight_decay: 3\n", "trial.weight_decay:", "did you mean 'optimizer.weight_decay'?"),
        ("  wd: 3\n", "trial.wd:", "did you mean 'optimizer.weight_decay'?"),
        ("grid: {hidden: [[3]]}\n", "grid.hidden:", "did you mean 'model.hidden'?"),
        ("grid: {optimiser.eps: [3]}\n", "grid.optimiser.eps:", "did you mean 'optimizer.eps'?"),
        ("search: {lr: [1]}\n", "search.lr:", "lr belongs in search.space"),
        ("search: {space: {weight_decay: [1]}}\n", "search.space.w", "did you mean 'optimizer.w"),
        ("search: {per: [weight_decay]}\n", "search.per[0]:", "did you mean 'optimizer.weight"),
        ("skip: [{when: {weight_decay: 1}, because: x}]\n", "skip[0].when.w", "did you mean 'opt"),
        ("expect: [{metric: val/loss, value: 1, tolerance: 1, lr: 1}]\n", "expect[0].lr", "lr bel"),
        ("grid: {optimizer.weight_decay: {low: 1, high: 2}}\n", "must be a list", "a range is se"),
        ("grid: {lr: {low: 1, high: 2}}\n", "must be a list", "a range is searched: write it in"),
        ("grid: {lr: {min: 1, max: 2}}\n", "must be a list", "a range is searched: write it in"),
        ("grid: {epochs: [{low: 1, high: 2}]}\n", "must be an integer", "a range is searched"),
        ("  epochs: {low: 1, high: 2}\n", "must be an integer", "a range is searched"),
        ("  scheduler: {name: step, gamma: {low: 0, high: 1}}\n", "must be a", "a range is sear"),
        ("  epochs: [1, 2]\n", "must be an integer", "several values belong in `grid:`"),
        ("  scheduler: [step, constant]\n", "must be a scheduler's", "several values belong in"),
        ("  scheduler: {step: {gamma: 0.1}}\n", "must be a scheduler's", "write it as {name: …"),
        ("  epochs: 1e1\n", "must be an integer, given 10.0", "write it as 10"),
        ("  grad_clip: '0.5'\n", "must be a number, given '0.5'", "write it as 0.5"),
        ("  grad_clip: 1,2\n", "must be a number", "write several values as a list: [1,2]"),
        ("  grad_clip: inf\n", "must be a number, given 'inf'", "allowed: 0 < value"),
        ("  grad_clip: 1_000\n", "must be a number, given '1_000'", "write it as 1000"),
        ("  scheduler: {name: step, lr: 1}\n", "has no option 'lr'", "lr is a trial field"),
    ],
)
def test_a_name_or_a_value_in_the_wrong_place(
    problems: Problems, text: str, what: str, hint: str
) -> None:
    found = [p for p in problems(GOOD + text) if what in p.what]
    assert found
    assert found[0].hint.startswith(hint)
    assert found[0].where == "grid.yaml:7"


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("weight_decay=0.1", "did you mean 'optimizer.weight_decay'?"),
        ("trial.weight_decay=0.1", "did you mean 'optimizer.weight_decay'?"),
        ("grid.weight_decay=[0.1]", "did you mean 'optimizer.weight_decay'?"),
        ("hidden=[3]", "did you mean 'model.hidden'?"),
        ("learning_rate=0.1", "did you mean 'lr'?"),
        ("trials=3", "trials belongs in `search:`"),
        ("search.lr=3", "lr belongs in search.space"),
        ("optimiser.weight_decay=0.1", "did you mean 'optimizer.weight_decay'?"),
    ],
)
def test_an_override_of_a_wrong_name(problems: Problems, override: str, hint: str) -> None:
    (problem,) = problems(GOOD, override)
    assert problem.hint.startswith(hint)
    assert problem.where == f"override {override!r}"


@pytest.mark.parametrize(
    ("old", "new", "line", "hint"),
    [
        ("  lr: 0.1", "\tlr: 0.1", 6, "the line is indented with a tab: use spaces"),
        ("  dataset", "\tdataset", 3, "the line is indented with a tab: use spaces"),
        ("  lr: 0.1", "  lr: 0.1\ngrid:\n  seed:\n\t- 1", 9, "the line is indented with a tab"),
        ("  lr: 0.1", "  \tlr: 0.1", 6, "the line is indented with a tab: use spaces"),
        ("name: x", "name: @x", 1, "put quotes around text that begins with"),
        ("name: x", "description: a: b", 1, "put quotes around text that contains a colon"),
        ("  lr: 0.1", "  lr:0.1", 6, "put a space after the colon"),
        ("trial:", "grid: {seed:[1]}\ntrial:", 2, "put a space after the colon"),
        ("trial:", "grid: {seed: [1}\ntrial:", 2, "close each bracket"),
    ],
)
def test_broken_yaml(problems: Problems, old: str, new: str, line: int, hint: str) -> None:
    (problem,) = problems(GOOD.replace(old, new))
    assert "is not valid YAML" in problem.what
    assert problem.hint.startswith(hint)
    assert problem.where == f"grid.yaml:{line}"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("adma", "adam"),
        ("ADAM", "adam"),
        ("val_acc", "val/accuracy"),
        ("wd", "weight_decay"),
        ("weight-decay", "weight_decay"),
        ("learning rate", "lr"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_closest_name(given: str, meant: str) -> None:
    assert closest(given, ["adam", "adamw", "val/accuracy", "lr", "weight_decay", "-x"]) == meant


class Inner(Options):
    rate: float = 0.1


class Outer(Options):
    inner: Inner = Inner()
    several: list[Inner] = Field([])
    count: int = Field(1, ge=1)


@pytest.mark.parametrize(
    ("given", "at", "rule", "hint"),
    [
        ({"inner": {"rat": 1}}, ("inner", "rat"), "unknown field", "did you mean 'rate'?"),
        ({"inner": {"rate": "x"}}, ("inner", "rate"), "must be a number, given 'x'", ""),
        ({"innr": {}}, ("innr",), "model 'net' has no option 'innr'", "did you mean 'inner'?"),
        ({"several": [{"rat": 1}]}, ("several", 0, "rat"), "unknown field", "did you mean 'rate'?"),
    ],
)
def test_a_wrong_key_inside_an_option(
    given: dict[str, object], at: tuple[str | int, ...], rule: str, hint: str
) -> None:
    """Its place is its own, also where another key of the option is wrong too."""
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(given)
    (message,) = option_messages(raised.value, Outer, "model 'net'")
    assert (message.at, message.rule) == (at, rule)
    assert message.hint.startswith(hint)
    both = {"inner": {"rat": 1, "rate": "x"}, "count": 0}
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(both)
    found = [m.at for m in option_messages(raised.value, Outer, "model 'net'")]
    assert sorted(map(str, found)) == ["('count',)", "('inner', 'rat')", "('inner', 'rate')"]
