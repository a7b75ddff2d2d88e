"""Poor results in a real store give valid reports in every format: divergence, missing trials, one
seed, ties, no variance, and names that would be commands elsewhere."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import sweep
from harness.compare import main
from harness.store.read.runs import StoredRun
from harness.store.store import open_store
from tests.stored import add, seeds, sweep_run, trial_run

SCRIPT, FORMULA = "<script>alert(1)</script>", "=cmd()"
CASES: dict[str, list[StoredRun]] = {
    "missing trials": [*seeds([0.9, 0.8, 0.7], lr=0.1), *seeds([0.9], lr=0.2)],
    "one seed": [trial_run(0.9, lr=0.1), trial_run(0.8, lr=0.2)],
    "ties": [*seeds([0.9, 0.8], lr=0.1), *seeds([0.8, 0.9], lr=0.2)],
    "no variance": [*seeds([0.9, 0.9], lr=0.1), *seeds([0.8, 0.8], lr=0.2)],
    "all diverged": seeds([None, None]),
    "hostile names": [
        trial_run(0.9, name=SCRIPT),
        trial_run(
            outcome="failed",
            status="FAILED",
            seed=1,
            name=FORMULA,
            tags={"harness.reason": f"{FORMULA} {SCRIPT}"},
        ),
    ],
}
FILE = """\
name: diverging
trial: {dataset: breast_cancer, model: {name: mlp, hidden: [4]}, epochs: 2, device: cpu}
grid: {optimizer: [sgd], lr: [1e-1, 1e9], seed: [0, 1]}
artifacts: none
"""


class Elements(HTMLParser):
    """The names of a page's elements, and the text of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts = 0
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mlruns").mkdir()
    monkeypatch.chdir(tmp_path)
    opened = open_store(tmp_path)
    for place, (name, runs) in enumerate(CASES.items()):
        add(opened, name, [sweep_run(), *runs], begin=1000 * place + 1)
    return tmp_path


@pytest.mark.slow
def test_poor_results_give_valid_reports(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = list(CASES)
    for form in ("table", "markdown", "latex"):
        assert main([*names, "--section", "all", "--format", form]) == 0
        output = capsys.readouterr().out
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b|\x1b", output)
    output = " ".join(output.split())
    assert output.count("nsufficient data") >= len(names)

    assert main([*names, "--format", "json"]) == 0
    parsed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    verdicts = {
        e["experiment"]: e["verdict"]["standings"][0]["sentence"] for e in parsed["experiments"]
    }
    assert verdicts["one seed"].endswith("Insufficient data: 1 seed proves nothing.")
    assert "lr 0.1 and lr 0.2 tie" in verdicts["ties"]
    assert "which all gave the same value" in verdicts["no variance"]
    assert verdicts["all diverged"] == "Insufficient data: no trial has val/accuracy."

    assert main([*names, "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)

    assert main([*names, "--html", "report.html"]) == 0
    page = (store / "report.html").read_text(encoding="utf-8")
    assert SCRIPT not in page
    found = Elements(page)
    assert found.scripts == page.count("<script")
    assert any(FORMULA in text for text in found.text)


@pytest.mark.slow
def test_a_trial_that_diverges_ranks_worst_and_is_counted(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained for real: a learning rate of a billion."""
    (workspace / "diverging.yaml").write_text(FILE)
    assert sweep.main(["diverging.yaml", "--executor", "inline", "--no-compare"]) == 0
    capsys.readouterr()

    assert main(["diverging", "--format", "csv"]) == 0
    best, worst = csv.DictReader(io.StringIO(capsys.readouterr().out))

    assert (best["lr"], best["diverged"], best["n"]) == ("0.1", "0", "2")
    assert (worst["lr"], worst["diverged"], worst["n"]) == ("1000000000", "2", "0")
    assert (worst["rank"], worst["mean"]) == ("2", "")
    assert main(["diverging"]) == 0
    assert "100% diverged" in capsys.readouterr().out
