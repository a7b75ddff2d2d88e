"""The source of a user's code as it is on disk: what is stored with a sweep's run, and what later
code is compared with. Nothing here runs code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from harness.components.code.identity import Sources
from harness.components.code.source import UserCode, sources_of
from harness.core.errors import InputError

LONGEST: Final = 16 * 2**20
"""Characters of a stored snapshot."""
MAX_LISTED: Final = 20
"""Most files and packages that a line lists."""

Identity = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")]
ShortText = Annotated[str, StringConstraints(max_length=1000)]


class SourceFile(BaseModel):
    """A file of a user's code. digest: of its syntax tree, which comments do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    digest: Identity
    text: str


class CodeSnapshot(BaseModel):
    """A user's code.

    identities: of each entry, a file or a module as the experiment file names it.
    files: all local files that count, by their path below the experiment file's folder; a file from
        elsewhere by the path under which it is imported.
    packages: the installed packages that count, each as "name==version".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    identities: Mapping[ShortText, Identity] = {}
    files: Mapping[ShortText, SourceFile] = {}
    packages: tuple[ShortText, ...] = ()

    @classmethod
    def take(cls, folder: Path, entries: Collection[str]) -> CodeSnapshot:
        """Reads the code that these entries lead to. Raises InputError if one cannot be read."""
        return cls._read(folder, {entry: sources_of(folder, entry) for entry in entries})

    @classmethod
    def of(cls, code: UserCode | None) -> CodeSnapshot:
        """Reads all code that an experiment names or gives; nothing if there is none."""
        if code is None:
            return cls()
        named = {entry: sources_of(code.folder, entry) for entry in code.named}
        given = {each.entry(code.folder): each for each in code.given}
        of_given = {entry: each.sources() for entry, each in given.items()}
        snapshot = cls._read(code.folder, of_given | named)
        texts = {
            entry: SourceFile(digest=each.identity, text=each.text())
            for entry, each in given.items()
            if not each.is_importable
        }
        identities = {entry: each.identity for entry, each in given.items()}
        update = {
            "identities": {**snapshot.identities, **identities},
            "files": {**snapshot.files, **texts},
        }
        return snapshot.model_copy(update=update)

    @classmethod
    def _read(cls, folder: Path, entries: Mapping[str, Sources]) -> CodeSnapshot:
        files: dict[str, SourceFile] = {}
        packages: set[str] = set()
        for sources in entries.values():
            packages |= sources.packages
            for module, path in sources.files.items():
                digest = hashlib.sha256(sources.trees[module].encode()).hexdigest()[:16]
                text = path.read_text(encoding="utf-8", errors="replace")
                files[_name(path, folder, module)] = SourceFile(digest=digest, text=text)
        identities = {entry: sources.identity() for entry, sources in entries.items()}
        return cls(identities=identities, files=files, packages=tuple(sorted(packages)))

    @classmethod
    def parse(cls, text: str) -> CodeSnapshot:
        """Returns what `to_json` wrote. Raises InputError for any other text, whatever it is."""
        if len(text) > LONGEST:
            raise InputError(f"it has more than {LONGEST:,} characters")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            reason = error.errors(include_input=False, include_url=False)[0]["msg"]
            raise InputError(reason[:200]) from None

    def to_json(self, clean: Callable[[str], str]) -> str:
        """Returns JSON for people to read. clean: applied to the text of each file."""
        cleaned = {
            name: file.model_copy(update={"text": clean(file.text)})
            for name, file in self.files.items()
        }
        return self.model_copy(update={"files": cleaned}).model_dump_json(indent=1)

    def describe(self) -> str:
        """Returns what runs: "net.py, schedulefree (with blocks.py, schedulefree 1.4.1)"."""
        packages = [package.replace("==", " ") for package in self.packages]
        named = {PurePosixPath(entry).as_posix() for entry in self.identities}
        more = [*(name for name in self.files if name not in named), *packages]
        if len(more) > MAX_LISTED:
            more[MAX_LISTED:] = [f"{len(more) - MAX_LISTED} more"]
        return ", ".join(self.identities) + (f" (with {', '.join(more)})" if more else "")

    def changes_since(self, earlier: CodeSnapshot) -> list[str]:
        """Returns in words what differs from an earlier snapshot: "net.py has changed"."""
        changes = []
        for name in sorted({*self.files, *earlier.files}):
            now, then = self.files.get(name), earlier.files.get(name)
            if now is None:
                changes.append(f"{name} is no longer used")
            elif then is None:
                changes.append(f"{name} is new")
            elif now.digest != then.digest:
                changes.append(f"{name} has changed")
        versions = dict(_split(package) for package in self.packages)
        before = dict(_split(package) for package in earlier.packages)
        for name in sorted({*versions, *before}):
            if versions.get(name) != before.get(name):
                was, is_now = before.get(name, "not used"), versions.get(name, "not used")
                changes.append(f"{name} is {is_now}, and was {was}")
        return changes


NO_CODE: Final = CodeSnapshot()
"""That of an experiment file that names no code."""


def _split(package: str) -> tuple[str, str]:
    name, _, version = package.partition("==")
    return name, version


def _name(path: Path, folder: Path, module: str) -> str:
    resolved = path.resolve()
    if resolved.is_relative_to(folder.resolve()):
        return resolved.relative_to(folder.resolve()).as_posix()
    within = path.name == "__init__.py"
    return "/".join([*module.split(".")[: None if within else -1], path.name])
