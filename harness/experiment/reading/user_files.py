"""Files that an experiment file names: they are looked for beside it first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.components.base import Options
from harness.components.shared.data_files import beside, nearest_path
from harness.core.errors import Problem
from harness.experiment.reading.file import ExperimentFile


def _file_options(options: Options) -> dict[str, str]:
    """Returns the relative paths among the options that name a user's file."""
    paths = {}
    for name, info in type(options).model_fields.items():
        extra = info.json_schema_extra
        path = getattr(options, name)
        if isinstance(extra, dict) and extra.get("file") and path:
            paths[name] = str(path)
    return {name: path for name, path in paths.items() if not Path(path).expanduser().is_absolute()}


def locate(options: Options, file: ExperimentFile) -> Options:
    """Returns the options with absolute paths for the files that lie beside the experiment file."""
    places = {name: beside(file.path.parent, path) for name, path in _file_options(options).items()}
    found = {name: str(place) for name, place in places.items() if place.exists()}
    return options.model_copy(update=found) if found else options


def suggest_beside(problem: Problem, options: Options, file: ExperimentFile) -> Problem:
    """Adds where a missing file was looked for first, and the file there of the nearest name."""
    for path in _file_options(options).values():
        place = beside(file.path.parent, path)
        near = nearest_path(place)
        hint = f"did you mean {near}? {problem.hint}" if near else problem.hint
        what = f"{problem.what}, nor does {place}"
        return replace(problem, what=what, hint=hint)
    return problem
