"""The declarations of trial fields, and the lists that derive from them."""

from __future__ import annotations

import pytest
from torch import nn

from harness.components.base import Model, Options, new_option, not_in_id
from harness.experiment import trial
from harness.experiment.fields import TrialFields
from harness.experiment.trial import Choice, Trial
from tests.support import make_trial


def test_a_file_accepts_the_fields_of_a_trial_in_their_order() -> None:
    assert tuple(TrialFields.model_fields) == trial.TRIAL_FIELDS == tuple(Trial.__annotations__)


def test_components() -> None:
    assert trial.COMPONENT_FIELDS == {
        "dataset": "datasets",
        "model": "models",
        "optimizer": "optimizers",
        "scheduler": "schedulers",
        "training_step": "training_steps",
        "training_loop": "training_loops",
        "loss": "losses",
    }
    assert trial.COMPONENT_LIST_FIELDS == {"augment": "augmentations"}
    assert trial.LIST_FIELDS == ("augment", "metrics")


def test_required_fields_and_defaults_by_task() -> None:
    required = [name for name, info in TrialFields.model_fields.items() if info.is_required()]
    assert required == ["dataset", "model", "optimizer", "lr"]
    by_task = [name for name, declared in trial.DECLARATIONS.items() if declared.by_task]
    assert by_task == ["loss", "metrics"]


def test_roles() -> None:
    assert trial.TASK_FIELDS == ("dataset", "model")
    own = ("training_step", "training_loop")
    assert ("optimizer", "lr", "scheduler", *own) == trial.METHOD_FIELDS
    components = ("dataset", "model", "optimizer", "scheduler", *own)
    assert (*components[:3], "lr", *components[3:]) == trial.MAIN_FIELDS
    assert components == trial.MAIN_COMPONENTS
    assert {"optimizer", "lr", "scheduler", "seed", "grad_clip"} == trial.STACKABLE_FIELDS
    assert trial.DEVICE_FIELDS == ("device",)


def test_a_config_leaves_out_the_seed_and_a_lineage_the_epochs() -> None:
    def ids(**fields: int) -> tuple[str, str, str]:
        identity, data = make_trial(**fields).identity(), trial.Fingerprint("f")
        return (
            trial.make_trial_id(identity, data),
            trial.make_config_id(identity, data),
            trial.make_lineage_id(identity, data),
        )

    first, seed, longer = ids(seed=0, epochs=1), ids(seed=1, epochs=1), ids(seed=0, epochs=2)
    assert [a == b for a, b in zip(first, seed, strict=True)] == [False, True, False]
    assert [a == b for a, b in zip(first, longer, strict=True)] == [False, False, True]


class _Options(Options):
    width: int = 4
    path: str = not_in_id("", "where the file lies")
    depth: int = new_option(1, "an option that came later", gt=0)


def test_a_new_option_is_in_the_id_only_where_it_is_set() -> None:
    model = Model(name="m", description="", reference="", options=_Options, build=_build)
    assert Choice(model, _Options()).identity() == {"name": "m", "width": 4}
    assert Choice(model, _Options(path="p")).identity() == {"name": "m", "width": 4}
    changed = Choice(model, _Options(depth=2)).identity()
    assert changed == {"name": "m", "width": 4, "depth": 2}


def test_a_revised_component_gives_new_ids() -> None:
    model = Model(name="m", description="", reference="", build=_build, revision=2)
    assert Choice(model, Options()).identity() == {"name": "m", "revision": 2}


def test_only_trials_with_a_revised_value_get_new_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [make_trial(grad_clip=clip).identity() for clip in (1.0, 2.0)]
    monkeypatch.setattr(trial, "REVISED_VALUES", {("grad_clip", 2.0): "2.0 since 1.1"})
    after = [make_trial(grad_clip=clip).identity() for clip in (1.0, 2.0)]
    assert after[0] == before[0]
    assert after[1] == {**before[1], "grad_clip": "2.0 since 1.1"}


def test_trials_in_bf16_have_new_ids_as_their_evaluation_changed() -> None:
    assert make_trial(precision="bf16").identity()["precision"] == "bf16, evaluated in fp32"
    assert make_trial().identity()["precision"] == "fp32"


def _build(*_arguments: object) -> nn.Module:
    return nn.Identity()
