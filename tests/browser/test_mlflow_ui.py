"""What a sweep leaves, seen in MLflow's own UI."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from harness import sweep
from harness.store.names import SWEEP, TAG_ARTIFACTS, TAG_KIND

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FILE = """\
name: seen
trial: {dataset: digits, model: {name: mlp, hidden: [16]}, epochs: 3}
grid:
  optimizer: [sgd, adam]
  lr: [0.001, 0.1]
  scheduler: [constant, cosine]
"""


@dataclass(frozen=True)
class Shown:
    """A UI, and the runs it shows."""

    url: str
    client: MlflowClient
    experiment: str
    parent: Any
    trials: list[Any]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """MLflow's UI over a real sweep, on a free port of 127.0.0.1."""
    root = tmp_path_factory.mktemp("project")
    (root / "mlruns").mkdir()
    (root / "seen.yaml").write_text(FILE)
    before = Path.cwd()
    os.chdir(root)
    try:
        assert sweep.main(["seen.yaml", "--executor", "inline", "--no-compare"]) == 0
    finally:
        os.chdir(before)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{root}/mlruns/mlflow.db"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health", server)
        yield _shown(url, store)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "mlflow ui ended"
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"{url} did not answer")


def _shown(url: str, store: str) -> Shown:
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("seen")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags[TAG_KIND] == SWEEP)
    trials = [run for run in runs if run is not parent]
    return Shown(url, client, experiment.experiment_id, parent, trials)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1500, "height": 950})
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


def _keep(page: Page, name: str) -> None:
    """A screenshot for people, where `HARNESS_SCREENSHOTS` names a folder."""
    folder = os.environ.get("HARNESS_SCREENSHOTS")
    if folder:
        close = page.get_by_role("button", name="Close", exact=True)
        if close.count():
            close.first.click()
        time.sleep(2)
        page.screenshot(path=f"{folder}/{name}.png")


def test_runs_stand_below_their_sweep(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/#/experiments/{shown.experiment}/runs")
    page.get_by_text(shown.parent.info.run_name).wait_for()
    child = page.get_by_text("sgd lr=0.1 cosine", exact=True)
    assert child.count() == 0
    row = page.get_by_role("row").filter(has_text=shown.parent.info.run_name)
    row.get_by_role("button").first.click()
    child.first.wait_for()
    _keep(page, "runs")


def test_curves_run_by_epoch(shown: Shown, page: Page) -> None:
    run = shown.trials[0].info.run_id
    page.goto(f"{shown.url}/#/experiments/{shown.experiment}/runs/{run}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("^val/loss$")
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    points = page.evaluate(
        "() => { const plot = document.querySelector('.js-plotly-plot');"
        " return {x: Array.from(plot.data[0].x), y: Array.from(plot.data[0].y)}; }"
    )
    assert points["x"] == [0, 1, 2, 3]
    stored = shown.client.get_metric_history(run, "val/loss")
    assert points["y"] == pytest.approx([point.value for point in stored])
    _keep(page, "curves")


def test_parallel_coordinates_over_the_axes(shown: Shown, page: Page) -> None:
    runs = quote(json.dumps([run.info.run_id for run in shown.trials]))
    page.goto(
        f"{shown.url}/#/compare-runs?runs={runs}&experiments={quote(json.dumps([shown.experiment]))}"
    )
    page.get_by_role("button", name="Clear All").click()
    selects = page.get_by_role("combobox")
    for name in ("lr", "optimizer", "scheduler"):
        _choose(page, selects.nth(0), name)
    _choose(page, selects.nth(1), "best/val/accuracy")
    page.keyboard.press("Escape")
    page.locator(".parcoords").first.wait_for()
    page.get_by_role("heading", name="Comparing").scroll_into_view_if_needed()
    labels = page.locator(".parcoords .axis-title").all_text_contents()
    assert {"lr", "optimizer", "scheduler", "best/val/accuracy"} <= set(labels)
    _keep(page, "parallel-coordinates")


def _choose(page: Page, select: Any, name: str) -> None:
    select.click()
    select.fill(name)
    page.locator(f'[title="{name}"], [data-value="{name}"]').last.click()


def test_a_figure_is_shown(shown: Shown, page: Page) -> None:
    kept = next(run for run in shown.trials if run.data.tags.get(TAG_ARTIFACTS) == "complete")
    page.goto(
        f"{shown.url}/#/experiments/{shown.experiment}/runs/{kept.info.run_id}"
        "/artifacts/figures/confusion_matrix.png"
    )
    image = page.locator("img[src^='blob:'], img[src*='confusion_matrix']").first
    image.wait_for()
    page.wait_for_function("() => [...document.images].some(i => i.naturalWidth > 300)")
    assert page.get_by_text(re.compile(r"confusion_matrix\.png")).count() > 0
    _keep(page, "artifact")
