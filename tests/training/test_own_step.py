"""Training steps of a user's own: what they compute, alone and in a stack, and mistakes in them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.components import registry
from harness.components.code.source import UserCode
from harness.core.errors import InputError
from harness.core.records import Ended, Measured, Outcome
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.experiment.trial import Trial
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from harness.training.stacked.modules.forward_pass import Unstackable
from tests.resume_support import uninterrupted_records
from tests.support import make_trial
from tests.training import own_steps
from tests.training.stacked import test_stack_resume as stacks
from tests.training.stacked.stacked_support import train_items, train_records
from tests.training.test_resume import check

SMALL: dict[str, Any] = {"dataset": "iris", "batch_size": 25, "epochs": 2, "optimizer": "adam"}
BATCH_NORM: dict[str, Any] = {"dataset": "digits", "model": "bn_cnn", "batch_size": 400}
AUGMENTED: dict[str, Any] = {"dataset": "digits", "augment": ["noise"], "batch_size": 400}
STACKED = ("plain", "sharpened", "mixup", "noisy")


@pytest.fixture(scope="module", autouse=True)
def _steps_are_known() -> Iterator[None]:
    registry.activate(UserCode(Path(__file__).parent, ("own_steps.py",)))
    yield
    registry.activate(None)


def trial_of(step: str, **fields: Any) -> Trial:
    return make_trial(training_step=step, **{**SMALL, **fields})


def alone(trial: Trial, root: Path) -> list[tuple[int, dict[str, float]]]:
    return _values(train(TrainingSetup(trial, root)))


def _values(records: Any) -> list[tuple[int, dict[str, float]]]:
    """The metrics of each record, without clocks."""
    found = []
    for record in records:
        if isinstance(record, Measured | Ended):
            values = record.values if isinstance(record, Measured) else record.final
            kept = {n: v for n, v in values.items() if n.startswith(("train/", "val/", "test/"))}
            found.append((getattr(record, "epoch", -1), kept))
    return found


def place(step: str) -> str:
    _, line = inspect.getsourcelines(getattr(own_steps, step))
    return f"own_steps.py:{line}"


def test_the_harness_step_written_out_gives_the_same_numbers(data_root: Path) -> None:
    assert alone(trial_of("plain"), data_root) == alone(make_trial(**SMALL), data_root)


def test_the_loss_in_training_is_the_steps_and_in_evaluation_the_trials(data_root: Path) -> None:
    fields = {"lr": 1e-9}  # Parameters hardly change: the train loss is the untrained model's.
    (_, plain), (_, sharp) = (
        alone(trial_of(step, **fields), data_root)[1] for step in ("plain", "sharpened")
    )
    assert sharp["train/loss"] > plain["train/loss"] + 0.05
    assert sharp["val/loss"] == pytest.approx(plain["val/loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("step", "fields"),
    [*((step, {}) for step in STACKED), ("noisy", BATCH_NORM), ("plain", AUGMENTED)],
)
def test_a_stack_computes_what_each_trial_computes(
    step: str, fields: dict[str, Any], data_root: Path
) -> None:
    trials = [trial_of(step, **fields, seed=s, lr=lr) for s in (0, 1) for lr in (0.001, 0.01)]
    keyed = [(str(i), trial) for i, trial in enumerate(trials)]
    records = list(train_records(keyed, data_root))
    for key, trial in keyed:
        mine = _values(record for of, record in records if of == key)
        expected = alone(trial, data_root)
        assert [epoch for epoch, _ in mine] == [epoch for epoch, _ in expected]
        for (_, ours), (_, theirs) in zip(mine, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("beta", "gives other results a second time"),
        ("filled", "its training step draws by normal_"),
        ("by_seed", "computes something else"),
        ("counting", "changes count"),
    ],
)
def test_what_cannot_be_stacked_says_why_and_trains_alone(
    step: str, reason: str, data_root: Path
) -> None:
    keyed = [(str(seed), trial_of(step, seed=seed)) for seed in (0, 1)]
    with pytest.raises(Unstackable, match=reason):
        list(train_records(keyed, data_root))
    assert len(alone(keyed[0][1], data_root)) == 4


def test_dropout_is_left_to_the_stack(data_root: Path) -> None:
    model = {"name": "mlp", "hidden": [16], "dropout": 0.5}
    keyed = [(str(seed), trial_of("noisy", model=model, seed=seed)) for seed in (0, 1)]
    ended = [r for _, r in train_records(keyed, data_root) if isinstance(r, Ended)]
    assert [record.outcome for record in ended] == [Outcome.DONE, Outcome.DONE]


@pytest.mark.parametrize("step", ["mixup", "beta", "noisy"])
def test_a_resumed_trial_is_the_same_to_the_last_bit(step: str, data_root: Path) -> None:
    check(trial_of(step, epochs=3, batch_size=40), data_root)


def test_a_resumed_stack_is_the_same_to_the_last_bit(data_root: Path) -> None:
    trials = [(str(seed), trial_of("mixup", seed=seed, batch_size=40)) for seed in (0, 1)]
    whole = stacks.by_key(train_items(trials, data_root, test_outputs=True))
    for state in stacks.states(trials, data_root).values():
        stacks.check(trials, data_root, state, whole)


MISTAKES = {
    "scalar": "returned a single number as losses of 25 examples",
    "too_short": "returned a tensor of shape [24] as losses of 25 examples",
    "no_outputs": "returned a tensor of shape [25], and not two tensors",
    "nothing": "returned nothing, and not two tensors",
    "swapped": "returned a tensor of shape [25] as outputs of 25 examples",
    "fewer_outputs": "returned 2 outputs for each example",
    "detached": "returned losses that do not depend on the model's parameters",
    "in_place": "changed its batch in place",
    "backward": "computed gradients itself, which would count twice",
}


@pytest.mark.parametrize(("step", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place_and_without_a_traceback(
    step: str, message: str, data_root: Path
) -> None:
    *_, ended = uninterrupted_records(trial_of(step), data_root)
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    assert ended.reason.startswith(f"{place(step)}: training_step {step} {message}")
    assert not ended.traceback


def test_an_exception_is_told_at_the_users_own_line(data_root: Path) -> None:
    *_, ended = uninterrupted_records(trial_of("broken"), data_root)
    assert isinstance(ended, Ended)
    line = inspect.getsourcelines(own_steps.broken)[1] + 2
    assert ended.reason.startswith(f"own_steps.py:{line}: AttributeError: 'Batch' object has no")


def test_trials_without_a_step_keep_their_ids() -> None:
    assert "training_step" not in make_trial().identity()
    step = trial_of("sharpened").identity()["training_step"]
    assert (step["name"], step["alpha"]) == ("sharpened", 0.1)
    assert step["code"]


def test_options_are_axes(tmp_path: Path) -> None:
    text = """\
name: own
code: own_steps.py
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, training_step: sharpened}
grid: {training_step.alpha: [0.1, 0.5]}
"""
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "own_steps.py").write_text(Path(own_steps.__file__).read_text())
    before = registry.active_code()
    try:
        plan = make_plan(load(tmp_path / "own.yaml"), tmp_path)
        alphas = [one.trial.training_step.resolved()["alpha"] for one in plan.trials]
        assert alphas == [0.1, 0.5]
        (tmp_path / "own.yaml").write_text(text.replace("0.5", "-0.5"))
        with pytest.raises(InputError, match=r"own.yaml:4: .*alpha.*-0.5"):
            load(tmp_path / "own.yaml")
    finally:
        registry.activate(before)


@pytest.mark.parametrize(
    "text",
    ["def step(model, batch): ...", "def step(model, *, batch, generator): ...", "class Step: ..."],
)
def test_a_step_takes_a_model_a_batch_and_a_generator(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(text)
    name = "odd.py:" + ("Step" if "class" in text else "step")
    before = registry.active_code()
    registry.activate(UserCode(tmp_path, (), frozenset({("training_steps", name)})))
    try:
        with pytest.raises(InputError, match="first three parameters are a model, a batch and"):
            registry.find("training_steps", name)
    finally:
        registry.activate(before)
