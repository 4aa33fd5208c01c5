"""The page in a real browser: headless Chromium reads what a user would."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from xorbench.judge.checks import judge
from xorbench.observe.records.run import Run
from xorbench.observe.records.training import Failure
from xorbench.plan.case import Case
from xorbench.report import page, runs
from xorbench.report.content import draw

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; skipped, with the reason, where it cannot be had."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def html(quick_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run, with a hostile reason of failure, name and injected fault in it."""
    failure = Failure(case=Case(seed=8), process="p0", config="base", epochs=3, failed=HOSTILE)
    info = msgspec.structs.replace(quick_run.info, name=HOSTILE, faults=[HOSTILE])
    run = msgspec.structs.replace(quick_run, info=info, failures=[failure])
    verdicts = judge(run)
    verdicts = [*verdicts, msgspec.structs.replace(verdicts[0], outcome="fail", hint=HOSTILE)]
    content = runs.content(run, verdicts)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.html(content, {p.name: draw(p) for p in content.pictures}))
    return path


@pytest.fixture(scope="module", params=["light", "dark"])
def shown(request: pytest.FixtureRequest, browser: Any, html: Path) -> Iterator[SimpleNamespace]:
    """The page, loaded, and all that it said and asked for meanwhile."""
    tab = browser.new_page(color_scheme=request.param, viewport={"width": 1400, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda asking: asked.append(asking.url))
    tab.goto(html.as_uri())
    yield SimpleNamespace(tab=tab, said=said, asked=asked, theme=request.param, uri=html.as_uri())
    tab.close()


def test_the_page_says_nothing_to_the_console(shown: SimpleNamespace) -> None:
    """No error, no warning, no breach of its own policy."""
    assert shown.said == []


def test_no_request_leaves_the_page(shown: SimpleNamespace) -> None:
    """It asks for itself, and for nothing else."""
    assert [url for url in shown.asked if not url.startswith("data:")] == [shown.uri]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows(shown: SimpleNamespace, width: int) -> None:
    """Wide tables scroll in their own boxes; the page never does."""
    shown.tab.set_viewport_size({"width": width, "height": 900})
    assert shown.tab.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """() => [...document.querySelectorAll('body *')].filter(
        e => !e.closest('.scroll, svg') && e.getBoundingClientRect().right > innerWidth + 1
    ).map(e => e.tagName + ' ' + e.className)"""
    assert shown.tab.evaluate(beyond) == []


def test_what_is_hostile_stays_text(shown: SimpleNamespace) -> None:
    """A reason, a name and a hint with markup in them are shown, not obeyed."""
    assert shown.tab.title().startswith("xorbench")
    assert shown.tab.locator("img").count() == 0
    assert shown.tab.get_by_text("onerror=").count() >= 3


def test_a_table_sorts_both_ways_by_the_keyboard(shown: SimpleNamespace) -> None:
    """Enter on a header sorts by numbers, not by letters, and says so to a screen reader."""
    table = shown.tab.locator("#table-checks ~ .scroll table")
    header = table.locator("th", has_text="pass")
    read = "cells => cells.map(cell => Number(cell.textContent))"
    for direction in ("ascending", "descending"):
        header.locator("button").press("Enter")
        values = table.locator("tbody tr td:nth-child(2)").evaluate_all(read)
        assert header.get_attribute("aria-sort") == direction
        assert values == sorted(values, reverse=direction == "descending")
        assert len(set(values)) > 2


def test_a_table_is_filtered_by_words(shown: SimpleNamespace) -> None:
    """Only the rows with all words stay, and how many is said."""
    table = shown.tab.locator("#table-checks ~ .scroll table")
    box = shown.tab.locator("#table-checks ~ label input")
    box.fill("AND load")
    visible = table.locator("tbody tr:visible td:first-child").all_inner_texts()
    said = shown.tab.locator("#table-checks ~ label span").inner_text()
    box.fill("")
    assert visible == ["save and load"]
    assert said.startswith("1 of ")
    assert table.locator("tbody tr:visible").count() > 5


def test_text_and_plots_can_be_read_in_this_theme(shown: SimpleNamespace) -> None:
    """The words of the page and of its pictures have a contrast of at least 4.5 to 1."""
    contrast = """selector => {
        const light = colour => {
            const part = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255).map(
                v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
        };
        const style = getComputedStyle(document.querySelector(selector));
        const ink = light(selector.includes('svg') ? style.fill : style.color);
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    }"""
    for selector in (".answers p", ".about", "a", "td", ".pass", ".fail strong", "svg text"):
        assert shown.tab.evaluate(contrast, selector) >= 4.5, selector


def test_every_picture_is_said_in_words_with_its_figures(shown: SimpleNamespace) -> None:
    """A name and a description that stand on the page, and a link to the data."""
    figures = shown.tab.locator("figure")
    assert figures.count() >= 4
    for index in range(figures.count()):
        figure = figures.nth(index)
        picture = figure.locator("svg")
        assert picture.get_attribute("role") == "img"
        for name in ("aria-labelledby", "aria-describedby"):
            words = shown.tab.locator(f"#{picture.get_attribute(name)}").inner_text()
            assert len(words) > 3
        link = figure.locator("a[download$='.csv']").get_attribute("href")
        assert link.startswith("data:text/csv")
        assert link.count("%0A") > 1
