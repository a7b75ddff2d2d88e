"""The HTML report in a real Chromium: it loads nothing, says nothing on the console, and works by
pointer and by keyboard, in both themes and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.report.html import html
from tests.report_support import StubRunDetails, full_grid, whole_report, with_run_details
from tests.stored import results, trial_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
SCRIPT = "<script>window.hacked = 1</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html([whole_report(full_grid())]), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    yield from opened(browser, report, width=1280, scheme="light")


def opened(browser: Browser, path: Path, width: int, scheme: str) -> Iterator[Page]:
    """Yields the page; when it is closed, it must have requested nothing and logged nothing."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        accept_downloads=True,
    )
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    network = [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    context.close()
    assert messages == []
    assert network == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_in_both_themes_and_on_a_phone(
    browser: Browser, report: Path, scheme: str, width: int
) -> None:
    for page in opened(browser, report, width, scheme):
        wide = page.evaluate("document.documentElement.scrollWidth")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert wide <= width  # only tables scroll sideways, within themselves
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.locator("svg.figure").count() > 20


def first_cells(page: Page, column: int) -> list[str]:
    table = page.locator("#r0-leaderboard .table").first
    cells = table.locator(f"tbody tr td:nth-child({column})")
    return [str(text) for text in cells.all_text_contents()]


def test_the_leaderboard_sorts_by_its_numbers(page: Page) -> None:
    table = page.locator("#r0-leaderboard .table").first
    head = table.locator("th", has_text="val/accuracy")
    column = head.evaluate("cell => cell.cellIndex") + 1

    head.locator("button").click()
    rising = [float(text.split()[0]) for text in first_cells(page, column)[:20]]
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    falling = [float(text.split()[0]) for text in first_cells(page, column)[:20]]

    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert rising[0] < falling[0]


def test_the_leaderboard_filters_all_rows_by_all_words(page: Page) -> None:
    table = page.locator("#r0-leaderboard .table").first
    table.locator("input").fill("adam cosine")

    assert table.locator("output").text_content() == "8 of 8 rows"
    assert set(first_cells(page, 3)) == {"adam"}
    table.locator("input").fill("nobody")
    assert table.locator("tbody tr").count() == 0


def test_it_works_by_keyboard_alone(page: Page) -> None:
    summary = page.locator("#r0-across_tasks figure summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#r0-across_tasks figure table").first.is_visible()

    page.locator("#theme").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"


def test_figures_are_downloaded_as_svg_and_png(page: Page, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    figure = page.locator("#r0-across_tasks figure").first
    for kind, magic in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with page.expect_download() as waiting:
            figure.locator(f"button[data-save={kind}]").click()
        saved = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(saved)
        assert saved.suffix == f".{kind}"
        assert saved.read_bytes().startswith(magic)
    root = ElementTree.fromstring((tmp_path / "r0-across_tasks-0.svg").read_text())
    assert "svg.figure" in "".join(root.itertext())  # its style travels with it


def test_each_figure_has_its_data(page: Page) -> None:
    figures = page.locator("figure").count()
    assert page.locator("figure details table").count() == figures


def test_without_scripts_everything_is_still_there(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#r0-leaderboard tbody tr").count() > 20
    assert page.locator("button:visible").count() == 0
    context.close()


def test_hostile_names_run_nothing(browser: Browser, tmp_path: Path) -> None:
    failed = trial_run(outcome="failed", status="FAILED", seed=1, name=SCRIPT)
    details = StubRunDetails(tracebacks={failed.run_id: f"{SCRIPT}\n=cmd()"})
    path = tmp_path / "hostile.html"
    found = with_run_details(results(trial_run(0.9, name=SCRIPT), failed), details)
    path.write_text(html([whole_report(found)]), encoding="utf-8")
    for page in opened(browser, path, 800, "light"):
        assert page.evaluate("window.hacked") is None
        page.locator("details summary").last.click()
        assert SCRIPT in (page.locator("details pre").last.text_content() or "")
