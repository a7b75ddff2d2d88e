"""Whether an architecture can be stacked, told before any data is read."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.training.fused.layers import Unstackable, translate
from harness.trial import Trial


def refusal(trial: Trial, data_root: Path) -> str | None:
    """Why this trial's model cannot train as a stack, from its layers alone; None where it may.

    The model is built without memory for its weights; one that cannot be built so is not judged.
    """
    info = trial.dataset.component.info(trial.dataset.options, data_root)
    outputs = trial.loss.component.outputs(info)
    try:
        with torch.device("meta"):
            translate(trial.model.component.build(trial.model.options, info, outputs))
    except Unstackable as reason:
        return f"model {trial.model.name}: {reason}"
    except Exception:  # noqa: BLE001 - whatever a model raises that wants real weights
        return None
    return None
