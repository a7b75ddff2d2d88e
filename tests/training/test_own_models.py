"""Models of well-known shapes, written as their users write them, train as they are: alone, and
the same in a stack, or with a plain reason why not."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import pytest

from harness.components import registry
from harness.core.records import Ended, Measured, Outcome
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from harness.training.stacked.modules.forward_pass import Unstackable
from tests.own_models import MODELS, own_trial
from tests.training.stacked.stacked_support import train_records

UNSTACKABLE = {
    "ViT": "attention",
    "LSTM": "does not support LSTM",
    "GRU": "does not support GRU",
}
QUICK = ("VAE", "GRU", "Siamese", "KAN", "Mixture of experts")
HAS_DROPOUT = ("WideResNet", "MobileNet", "EfficientNet", "TextCNN", "Transformer encoder", "GCN")
"""Their masks come from other streams in a stack."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "own-models.md"


@pytest.fixture(autouse=True)
def _no_code_stays() -> Iterator[None]:
    yield
    registry.activate(None)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name)
        for name in MODELS
    ],
)
def test_a_model_trains_alone_and_in_a_stack(name: str, data_root: Path) -> None:
    trials = [(str(seed), own_trial(name, seed)) for seed in (0, 1)]
    alone = {key: list(train(TrainingSetup(trial, data_root))) for key, trial in trials}
    for records in alone.values():
        *_, last, ended = records
        assert isinstance(ended, Ended)
        assert isinstance(last, Measured)
        assert ended.outcome is Outcome.DONE
        assert isfinite(last.values["train/loss"])
    if name in UNSTACKABLE:
        with pytest.raises(Unstackable, match=UNSTACKABLE[name]):
            list(train_records(trials, data_root))
        return
    stacked = list(train_records(trials, data_root))
    for key, records in alone.items():
        ours = [record for of, record in stacked if of == key]
        last = next(record for record in reversed(ours) if isinstance(record, Measured))
        expected = next(record for record in reversed(records) if isinstance(record, Measured))
        if name not in HAS_DROPOUT:
            loss = expected.values["train/loss"]
            assert last.values["train/loss"] == pytest.approx(loss, rel=2e-3, abs=2e-3)


def test_the_table_has_every_model() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    assert [row.split(" (`")[0][2:] for row in rows[1:]] == list(MODELS)
    for name, row in zip(MODELS, rows[1:], strict=True):
        assert ("| no: " in row) == (name in UNSTACKABLE), row
