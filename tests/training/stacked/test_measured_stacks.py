"""A stack that was sized and measured trains, to the last bit, as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.experiment.trial import Choice
from harness.training.stacked import speedup
from harness.training.stacked.loop import train_stack
from harness.training.stacked.stack import Stack
from tests.support import make_trial
from tests.training.stacked.tape_support import TapeRecorder
from tests.training.stacked.test_stack_resume import DROPOUT, Own, Trials, by_key, stack_of

CPU = torch.device("cpu")


def own_modules() -> Trials:
    component = replace(make_trial().model.component, name="own", build=lambda *_: Own())
    own = Choice(component, make_trial().model.options)
    return [(key, replace(trial, model=own)) for key, trial in stack_of()]


STACKS: dict[str, Callable[[], Trials]] = {
    "every rule, and optimizers without one": lambda: stack_of(model=DROPOUT),
    "batch normalisation": lambda: stack_of(model={"name": "bn_cnn", "first": 2, "second": 2}),
    "augmented": lambda: stack_of(model=DROPOUT, augment=["crop", "noise"]),
    "bf16": lambda: stack_of(model=DROPOUT, precision="bf16"),
    "by batch": lambda: stack_of(scheduler={"name": "cosine", "by": "batch"}),
    "modules of one's own": own_modules,
}


@pytest.mark.parametrize("build", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("recorder", [lambda _: None, lambda _: TapeRecorder()])
def test_measuring_changes_no_bit(
    build: Callable[[], Trials],
    recorder: Callable[[Any], Any],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speedup, "recorder_for", recorder)
    monkeypatch.setattr(speedup, "MIN_STACK_SECONDS", 0.0)
    plain = by_key(train_stack(Stack(build(), data_root, CPU), test_outputs=True))
    measured = Stack(build(), data_root, CPU)
    assert measured.bytes_per_trial() > 0
    assert speedup.measure_speedup(measured, data_root)
    assert by_key(train_stack(measured, test_outputs=True)) == plain


def test_a_failed_dry_run_is_undone(data_root: Path) -> None:
    stack = Stack(stack_of(model=DROPOUT), data_root, CPU)
    before = [tensor.clone() for tensor in stack.state_tensors()]
    examples = stack.data.train.shuffled(stack.seeds, 1)[:, :256]
    coefficients = tuple(table[0] for table in stack.coefficients(1))
    no_masks: Any = object()
    with pytest.raises(AttributeError), stack.dry_run():
        [stack.step(examples, coefficients, masks) for masks in (stack.streams(1).masks, no_masks)]
    after = stack.state_tensors()
    assert len(after) == len(before)
    assert all(map(torch.equal, before, after))
