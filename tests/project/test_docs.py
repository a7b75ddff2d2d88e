"""The documents are true: links lead somewhere, commands and flags exist, examples load."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from harness.__main__ import COMMANDS
from harness.experiment.loading import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_PARSER = sorted(set(COMMANDS) - {"components"})


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_example_experiments_load(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    for file, code in re.findall(r"`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)```", text, re.DOTALL):
        (tmp_path / file).write_text(code)
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for number, block in enumerate(blocks):
        if "lightning" in block and importlib.util.find_spec("lightning") is None:
            continue
        if re.search(r"^name:", block, re.MULTILINE) and "…" not in block:
            path = tmp_path / f"example{number}.yaml"
            path.write_text(block)
            load(path)


@pytest.mark.parametrize("command", WITH_PARSER)
def test_every_flag_is_documented_and_every_documented_flag_exists(command: str) -> None:
    page = ROOT / "docs" / f"{command}.md"
    actions = importlib.import_module(f"harness.{command}").parser()._actions
    flags = {flag for action in actions for flag in action.option_strings if flag.startswith("--")}
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text()))
    assert flags - {"--help"} <= written, f"{name(page)} lacks {flags - written}"
    others = {"--write"}  # of harness.experiment.schema
    assert written <= flags | others, f"{name(page)} tells of {written - flags - others}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    for module in re.findall(r"python -m (harness(?:\.\w+)*)", page.read_text()):
        importlib.import_module(module)


def test_make_targets_exist() -> None:
    told = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"make (\S+)", told))
    wanted = {"sweep", "test", "test-all", "compare", "ui", "bench", "check"}
    assert wanted <= targets
    for page in PAGES:
        used = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text()))
        assert used <= targets, f"{name(page)} uses {used - targets}"


def test_every_recipe_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    files = (ROOT / "experiments").glob("*.yaml")
    recipes = [path.name for path in files if "expect:" in path.read_text()]
    assert recipes
    for recipe in recipes:
        assert recipe in text, f"README.md does not tell what {recipe} reached"
