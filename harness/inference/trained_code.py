"""Makes the code known that a run was trained with, where an experiment file names it and it is on
disk as it was then. Nothing is run before both are certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.components.code.snapshot import LONGEST, CodeSnapshot
from harness.components.code.source import UserCode, entry_of, identity_of
from harness.components.registry import activate
from harness.core.errors import InputError, Problem, StoreError
from harness.core.text import join_with_and
from harness.experiment.reading.file import code_entries, possible_references, read_file
from harness.experiment.trial import KIND_OF_FIELD
from harness.store.names import CODE_FILE
from harness.store.read.run_files import read_text

if TYPE_CHECKING:
    from harness.inference.trained_model import TrainedRun
    from harness.store.store import Store


def use_code(store: Store, run: TrainedRun, experiment: Path | None) -> None:
    """Makes the user's code of a run known; does nothing for a run without any.

    experiment: the file that names the code, which lies beside or below it.
    Raises InputError if no file is given, if it does not name the code, and if that has changed.
    """
    # A model and a loss may have one name.
    trained = [named for by_name in run.code.values() for named in by_name.items()]
    names = sorted({name for name, _ in trained})
    if not names:
        return
    if experiment is None:
        raise InputError(
            Problem(
                f"run {run.run_id} was trained with code of yours: {_quoted(names)}",
                hint="predict runs it if you give the experiment file that names it: "
                "--experiment FILE",
            )
        )
    file = read_file(experiment)
    references = {name for name in names if ":" in name}
    for name in sorted(references - possible_references(file)):
        raise InputError(Problem(f"does not name {name}", where=str(experiment)))
    folder = experiment.resolve().parent
    entries = list(dict.fromkeys((*code_entries(file), *map(entry_of, sorted(references)))))
    on_disk = {identity: entry for entry in entries for identity in _identity(folder, entry)}
    if differing := sorted({name for name, identity in trained if identity not in on_disk}):
        raise _changed(run, _stored_source(store, run), folder, entries, differing)
    used = {on_disk[identity]: None for _, identity in trained}
    activate(UserCode(folder, tuple(used), frozenset(_references(run.code))))


def _quoted(names: Sequence[str]) -> str:
    return join_with_and(f"`{name}`" for name in names)


def _references(code: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for field, by_name in code.items():
        for name in by_name:
            if ":" in name and field in KIND_OF_FIELD:
                yield KIND_OF_FIELD[field], name


def _identity(folder: Path, entry: str) -> Iterator[str]:
    try:
        yield identity_of(folder, entry)
    except InputError:
        return


def _stored_source(store: Store, run: TrainedRun) -> CodeSnapshot:
    """Returns the source that is stored with the run's sweep; none if it cannot be read."""
    try:
        artifacts = store.run(run.parent_id).info.artifact_uri
        return CodeSnapshot.parse(
            read_text(store, run.parent_id, artifacts, CODE_FILE, LONGEST + 1)
        )
    except (InputError, StoreError, OSError, ValueError):
        return CodeSnapshot()


def _changed(
    run: TrainedRun,
    stored: CodeSnapshot,
    folder: Path,
    entries: Sequence[str],
    differing: Sequence[str],
) -> InputError:
    """Returns what differs between the code on disk and that of the run."""
    try:
        found = CodeSnapshot.take(folder, entries)
        changes = found.changes_since(stored) if stored.identities else []
    except InputError as error:
        changes = [problem.what for problem in error.problems]
    differences = f": {join_with_and(changes)}" if changes else ""
    return InputError(
        Problem(
            f"the code of {_quoted(differing)} is not what run {run.run_id} was trained with"
            f"{differences}",
            hint=f"its source is stored: {CODE_FILE} of run {run.parent_id}, in `make ui`; put it "
            "back, or train again",
        )
    )
