"""The state of the working tree that a sweep ran from."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

DIFF_BYTES = 2**20
SECONDS = 20


@dataclass(frozen=True, slots=True)
class GitState:
    """commit: the full hash, empty outside a repository. changed: `git status --porcelain`, file
    by file, untracked files included. diff: against the commit, cut at DIFF_BYTES."""

    commit: str = ""
    branch: str = ""
    changed: tuple[str, ...] = ()
    diff: str = ""
    truncated: bool = False

    @property
    def dirty(self) -> bool:
        return bool(self.changed)

    def metadata(self) -> dict[str, object]:
        """What every run records; the diff itself, which can be large, by its checksum."""
        return {
            "commit": self.commit,
            "branch": self.branch,
            "dirty": self.dirty,
            "changed": list(self.changed),
            "diff_sha256": hashlib.sha256(self.diff.encode()).hexdigest() if self.diff else "",
            "diff_truncated": self.truncated,
        }


def git_state(folder: Path) -> GitState:
    """The state of the repository around `folder`; an empty one where there is none, or no git."""
    commit = _git(folder, "rev-parse", "HEAD").strip()
    if not commit:
        return GitState()
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    cut = diff.encode()[:DIFF_BYTES].decode(errors="ignore")
    return GitState(
        commit=commit,
        branch=_git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip(),
        changed=tuple(_git(folder, "status", "--porcelain").splitlines()),
        diff=cut,
        truncated=len(cut) < len(diff),
    )


def checkout_state(folder: Path) -> GitState:
    """The state of the repository whose top `folder` is; an empty one where it only lies in one,
    as a package installed within a project does."""
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    return git_state(folder) if top and Path(top).resolve() == folder.resolve() else GitState()


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, or nothing where it fails. It takes no locks: others may be at work."""
    try:
        done = subprocess.run(  # noqa: S603 - its arguments are written here
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
