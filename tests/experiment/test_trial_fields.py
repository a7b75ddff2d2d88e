"""The declarations of trial fields, and the lists that derive from them."""

from __future__ import annotations

from harness.experiment import trial
from harness.experiment.fields import BY_TASK, REQUIRED, TrialFields
from harness.experiment.trial import Trial
from tests.support import make_trial


def test_a_file_accepts_the_fields_of_a_trial_in_their_order() -> None:
    assert tuple(TrialFields.model_fields) == trial.TRIAL_FIELDS == tuple(Trial.__annotations__)


def test_components() -> None:
    assert trial.COMPONENT_FIELDS == {
        "dataset": "datasets",
        "model": "models",
        "optimizer": "optimizers",
        "scheduler": "schedulers",
        "loss": "losses",
    }
    assert trial.COMPONENT_LIST_FIELDS == {"augment": "augmentations"}
    assert trial.LIST_FIELDS == ("augment", "metrics")


def test_required_fields_and_defaults_by_task() -> None:
    assert REQUIRED == ("dataset", "model", "optimizer", "lr")
    assert BY_TASK == ("loss", "metrics")


def test_roles() -> None:
    assert trial.TASK_FIELDS == ("dataset", "model")
    assert trial.METHOD_FIELDS == ("optimizer", "lr", "scheduler")
    assert trial.MAIN_FIELDS == ("dataset", "model", "optimizer", "lr", "scheduler")
    assert trial.MAIN_COMPONENTS == ("dataset", "model", "optimizer", "scheduler")
    assert {"optimizer", "lr", "scheduler", "seed", "grad_clip"} == trial.STACKABLE_FIELDS
    assert trial.DEVICE_FIELDS == ("device",)


def test_a_config_leaves_out_the_seed_and_a_lineage_the_epochs() -> None:
    def ids(**fields: int) -> tuple[str, str, str]:
        identity = make_trial(**fields).identity()
        return (
            trial.make_trial_id(identity, "f"),
            trial.make_config_id(identity, "f"),
            trial.make_lineage_id(identity, "f"),
        )

    first, seed, longer = ids(seed=0, epochs=1), ids(seed=1, epochs=1), ids(seed=0, epochs=2)
    assert [a == b for a, b in zip(first, seed, strict=True)] == [False, True, False]
    assert [a == b for a, b in zip(first, longer, strict=True)] == [False, False, True]
