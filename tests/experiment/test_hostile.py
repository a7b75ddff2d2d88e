"""Every file is either loaded or refused with reasons; no other error is raised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.experiment.fields import FileFields
from harness.experiment.loading import load
from harness.experiment.trial import TRIAL_FIELDS

WORDS = st.sampled_from(
    [
        *["mlp", "cnn", "sgd", "adam", "digits", "iris", "cosine", "plateau", "none", "flip"],
        *["val/accuracy", "test/loss", "name", "a/b", "", "-1", "bf16", "x", "mse", "accuracy"],
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(-1, 2) | WORDS
OPTIONS = st.sampled_from(
    ["name", "hidden", "dropout", "momentum", "metric", "when", "because", "where", "value", "x"]
)
FIELD = st.sampled_from(
    [*TRIAL_FIELDS, "model.hidden", "optimizer.momentum", "lr.x", "y", "loss.z"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OPTIONS | FIELD, inner, max_size=3),
    max_leaves=6,
)
TRIALS = st.dictionaries(FIELD, VALUES, max_size=6).map(
    lambda given: {"dataset": "digits", "model": "mlp", "optimizer": "sgd", "lr": 0.1} | given
)
FILES = st.fixed_dictionaries(
    {"trial": TRIALS | VALUES},
    optional={
        name: st.dictionaries(FIELD, st.lists(VALUES, max_size=3), max_size=3) | VALUES
        if name == "grid"
        else VALUES
        for name in (*FileFields.model_fields, "other")
        if name != "trial"
    },
)


def lines(content: dict[str, Any]) -> str:
    """JSON, which is YAML, with each of its values on a line of its own."""
    return json.dumps(content, indent=1)


@settings(max_examples=150, deadline=None)
@given(FILES, st.lists(st.tuples(FIELD, VALUES), max_size=2))
def test_no_file_raises_anything_but_an_input_error(
    tmp_path_factory: Any, content: dict[str, Any], overrides: list[tuple[str, Any]]
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "hostile.yaml"
    path.write_text(lines(content), encoding="utf-8")
    try:
        experiment = load(path, [f"{name}={json.dumps(value)}" for name, value in overrides])
    except InputError as error:
        unplaced = [problem for problem in error.problems if not problem.where]
        assert not unplaced
    else:
        assert experiment.grid.combinations
