"""The page on architecture and CONTRIBUTING name files and folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page: str) -> None:
    named = set(re.findall(r"`((?:harness|tests|checks|benchmarks)/[\w./]*)`", read(page)))
    assert named, f"{page} names no file"
    absent = sorted(path for path in named if not (ROOT / path).exists())
    assert not absent, f"{page} names {', '.join(absent)}"


@pytest.mark.parametrize("page", PAGES)
def test_named_definitions_exist(page: str) -> None:
    """A line that names a file and then `definitions` names what the file defines."""
    for line in read(page).splitlines():
        files = re.findall(r"`((?:harness)/[\w./]*\.py)`", line)
        text = "".join((ROOT / path).read_text() for path in files)
        for name in re.findall(r"`(?:\w+\.)?(\w+)\(\)`", line) if files else ():
            assert re.search(rf"\b(def|class) {name}\b", text), f"{page}: {files} lack {name}"


def test_every_room_is_in_the_house() -> None:
    rooms = {path.name for path in (ROOT / "harness").iterdir() if (path / "__init__.py").exists()}
    named = set(re.findall(r"`(\w+)/`", read("CONTRIBUTING.md")))
    assert rooms <= named, f"CONTRIBUTING.md lacks {rooms - named}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
