"""The experiment loader on many random files, and on recipes with broken bytes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.experiment.loading import load
from tests.experiment.test_hostile import FIELD, FILES, VALUES, lines

RECIPES = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("*.yaml"))


def loads_or_is_refused(path: Path, overrides: list[str]) -> None:
    with suppress(InputError):
        load(path, overrides)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(FILES, st.lists(st.tuples(FIELD, VALUES), max_size=3))
def test_many_files_are_loaded_or_refused(
    tmp_path_factory: Any, content: dict[str, Any], overrides: list[tuple[str, Any]]
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "many.yaml"
    path.write_text(lines(content), encoding="utf-8")
    loads_or_is_refused(path, [f"{name}={value}" for name, value in overrides])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RECIPES), st.data())
def test_a_recipe_with_bytes_changed_is_loaded_or_refused(
    tmp_path_factory: Any, recipe: Path, data: st.DataObject
) -> None:
    content = bytearray(recipe.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        old = data.draw(st.integers(0, 12))
        content[place : place + old] = data.draw(st.binary(max_size=6))
    path = Path(tmp_path_factory.getbasetemp()) / "changed.yaml"
    path.write_bytes(bytes(content))
    loads_or_is_refused(path, [])
