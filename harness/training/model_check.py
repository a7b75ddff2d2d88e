"""Whether a model of a user's own takes the examples and returns what it must.

`require_models` runs before a sweep trains; `require_outputs` at every evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path
from time import monotonic
from typing import Final

import torch
from torch import Tensor

from harness.components.base import DataInfo, Model
from harness.components.registry import line_of_code
from harness.core.errors import InputError, Problem, first_line
from harness.core.text import kind_of
from harness.experiment.trial import Choice, Trial, is_absent
from harness.training import device as devices

EXAMPLES: Final = 2
SECONDS: Final = 2.0
"""Models are tried before a sweep until so much time has passed."""


def require_outputs(choice: Choice[Model], outputs: object, examples: int, wanted: int) -> None:
    """Raises InputError unless a model returned one row of outputs for each example.

    wanted: values of each row; 0 for any number.
    """
    if isinstance(outputs, Tensor) and _fits(outputs.shape, examples, wanted):
        return
    name, place = f"model {choice.name}", choice.component.place
    expected = f"[{examples}, {wanted or 'outputs'}]"
    if not isinstance(outputs, Tensor):
        wrong = f"{name} returned {kind_of(outputs)}, and not a tensor of shape {expected}"
        hint = "does forward end with a return?" if outputs is None else ""
        if isinstance(outputs, tuple | list | dict):
            hint = "return the outputs alone in evaluation (if not self.training); a training_step"
            hint += " can call the model's other methods"
        raise InputError(Problem(wrong, place, hint))
    wrong = f"{name} returned outputs of shape {list(outputs.shape)}, and not {expected}"
    hint = "a parameter of type harness.DataInfo, or $outputs, says how many outputs are wanted"
    raise InputError(Problem(wrong, place, hint))


def _fits(shape: torch.Size, examples: int, wanted: int) -> bool:
    is_row_each = len(shape) > 1 and shape[0] == examples
    return is_row_each and (not wanted or prod(shape[1:]) == wanted)


def zero_examples(info: DataInfo) -> Tensor:
    """Returns examples of zeros, [2, *info.shape]: floats, or token numbers."""
    kind = torch.int64 if info.tokens else torch.float32
    return torch.zeros(EXAMPLES, *info.shape, dtype=kind)


def wanted_outputs(trial: Trial, info: DataInfo) -> int:
    """Returns how many values a trial's model must return for each example; 0 if a loss of the
    user's own may take any number."""
    loss = trial.loss.component
    return 0 if loss.code else loss.outputs(info)


def require_models(trials: Iterable[Trial], data_root: Path) -> None:
    """Raises InputError if a model of the user's own cannot take its data set, or returns what it
    must not: for each model, data set and loss once, before anything trains."""
    problems, tried, end = [], set(), monotonic() + SECONDS
    for trial in trials:
        key = trial.model, trial.dataset, trial.loss.name
        if not trial.model.component.code or key in tried or is_absent("dataset", trial.dataset):
            continue
        if monotonic() > end:
            break
        tried.add(key)
        if devices.resolve(trial.device).type == "cpu" and (problem := _problem(trial, data_root)):
            problems.append(problem)
    if problems:
        raise InputError(list(dict.fromkeys(problems)))


def _problem(trial: Trial, data_root: Path) -> Problem | None:
    """Returns what is wrong with a trial's model, or None: builds it and evaluates two examples of
    zeros."""
    choice = trial.model
    info = trial.dataset.component.info(trial.dataset.options, data_root)
    examples = zero_examples(info)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            outputs = trial.loss.component.outputs(info)
            model = choice.component.build(choice.options, info, outputs).eval()
            if not any(True for _ in model.parameters()):
                wrong = f"model {choice.name} has no parameters: there is nothing to train"
                return Problem(wrong, choice.component.place)
            returned = model(examples)
        require_outputs(choice, returned, EXAMPLES, wanted_outputs(trial, info))
    except InputError as error:
        return error.problems[0]
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises
        shape = ", ".join(map(str, ("B", *info.shape)))
        what = f"model {choice.name} cannot take examples of {trial.dataset.name}, [{shape}]: "
        place = line_of_code(error) or choice.component.place
        return Problem(f"{what}{type(error).__name__}: {first_line(error)}", place)
    return None
