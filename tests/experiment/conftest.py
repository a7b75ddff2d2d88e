"""Fixtures that load experiment files from text, and collect their problems."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from harness.core.errors import InputError, Problem
from harness.experiment.experiment import Experiment
from harness.experiment.loading import load
from tests.experiment.experiment_support import Load, Problems


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Loads an experiment from its text, called `grid.yaml`, with overrides."""

    def loaded(content: str, *overrides: str) -> Experiment:
        path = tmp_path / "grid.yaml"
        path.write_text(dedent(content), encoding="utf-8")
        return load(path, overrides, tmp_path)

    return loaded


@pytest.fixture
def problems(load_text: Load, tmp_path: Path) -> Problems:
    """Returns the problems of an experiment's text; places leave out the folder: "grid.yaml:7"."""

    def found(content: str, *overrides: str) -> list[Problem]:
        with pytest.raises(InputError) as raised:
            load_text(content, *overrides)
        assert raised.value.exit_code == 2
        return [
            Problem(*(part.replace(f"{tmp_path}/", "") for part in (p.what, p.where, p.hint)))
            for p in raised.value.problems
        ]

    return found
