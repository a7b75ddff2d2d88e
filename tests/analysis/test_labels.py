"""Short names: only what sets configs apart."""

from __future__ import annotations

from harness.analysis.comparison import Question, compare
from tests.stored import results, trial_run, without


def shown(*runs: object) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    found = compare(results(*runs), Question())  # type: ignore[arg-type]
    return found.shown, [{n: c.labels[n] for n in found.shown} for c in found.configs]


def test_only_fields_that_differ_are_shown() -> None:
    fields, labels = shown(trial_run(0.9, lr=0.1), trial_run(0.8, lr=0.01))

    assert fields == ("lr",)
    assert labels == [{"lr": "0.1"}, {"lr": "0.01"}]


def test_options_are_shown_if_a_component_has_several_values() -> None:
    _, labels = shown(
        trial_run(0.9, optimizer={"name": "adam", "eps": 1e-3}),
        trial_run(0.8, optimizer="adam"),
        trial_run(0.7, optimizer={"name": "sgd", "weight_decay": 0.1}),
    )

    assert [label["optimizer"] for label in labels] == ["adam(eps=0.001)", "adam(eps=1e-08)", "sgd"]


def test_fields_stand_in_the_order_that_people_look_for_them() -> None:
    fields, _ = shown(
        trial_run(0.9, lr=0.1, batch_size=32, model="mlp", optimizer="sgd"),
        trial_run(0.8, lr=0.2, batch_size=64, model="perceptron", optimizer="adam"),
    )

    assert fields == ("model", "optimizer", "lr", "batch_size")


def test_a_seed_is_no_difference_between_configs() -> None:
    fields, labels = shown(trial_run(0.9, seed=0), trial_run(0.8, seed=1))

    assert fields == ()
    assert len(labels) == 1


def test_an_option_that_an_older_run_lacks_is_not_shown() -> None:
    older = without(trial_run(0.8, lr=0.5), "model.dropout")

    _, labels = shown(trial_run(0.9), older)

    assert [label["model"] for label in labels] == ["mlp(dropout=0)", "mlp"]
