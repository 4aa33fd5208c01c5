"""The page in a real browser, headless Chromium."""

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pandas as pd
import pytest

from xorbench.records.schema.run import Run
from xorbench.records.schema.training import Failure
from xorbench.report import page
from xorbench.report.content import draw
from xorbench.report.text import shown as columns_shown
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.report import runs
from xorbench.xor.report.plots.speed import describe_speeds, speeds

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
WIDTHS = (400, 1400)
PHONE = 420
PROCESSES = 8
# Where the axes of a figure are, its legend, and each text, in pixels of the window.
BOXES = """name => {
    const figure = document.getElementById('figure-' + name), svg = figure.querySelector('svg');
    const box = e => { const b = e.getBoundingClientRect();
        return {left: b.left, right: b.right, top: b.top, bottom: b.bottom, text: e.textContent}; };
    const clip = figure.querySelector('clipPath rect'), at = svg.getScreenCTM();
    const left = at.e + at.a * clip.x.baseVal.value, top = at.f + at.d * clip.y.baseVal.value;
    const axes = {left, top, right: left + at.a * clip.width.baseVal.value,
        bottom: top + at.d * clip.height.baseVal.value};
    const legend = figure.querySelector('[id$=legend_1]');
    return {svg: box(svg), axes, legend: legend && box(legend),
        texts: [...svg.querySelectorAll('text')].map(box)};
}"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll('svg text')].map(
    e => parseFloat(getComputedStyle(e).fontSize) *
        Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; skipped with the reason if it is not available."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        result = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield result
        result.close()


@pytest.fixture(scope="module")
def html(quick_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run, with a hostile reason of failure, name and injected fault in it."""
    failure = Failure(case=Case(seed=8), process="p0", config="base", epochs=3, failed=HOSTILE)
    info = msgspec.structs.replace(quick_run.info, name=HOSTILE, faults=[HOSTILE])
    run = msgspec.structs.replace(quick_run, info=info, failures=[failure])
    verdicts = judge(Evidence(run))
    verdicts = [*verdicts, msgspec.structs.replace(verdicts[0], outcome="fail", hint=HOSTILE)]
    content = runs.content(Evidence(run), verdicts)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.html(content, {p.name: draw(p) for p in content.pictures}))
    return path


@pytest.fixture(scope="module")
def crowded(quick_run: Run) -> Run:
    """A run of 8 processes under a config with a long name, of 12 cases with long names."""
    env = ("KMP_AFFINITY=granularity=fine,compact,1,0", "ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX")
    config = ProcessConfig(threads=2, env=env)
    plain = ProcessConfig(python="nightly-with-debug-symbols=/opt/python")
    cases = [
        Case(batch_size=32 * size, optimizer=optimizer, dtype="bfloat16", non_blocking=waits)
        for size in (1, 2, 4)
        for optimizer in ("default", "foreach")
        for waits in (False, True)
    ]
    first = quick_run.trainings[0]
    trainings = [
        msgspec.structs.replace(
            first,
            case=case,
            process=f"p{number}",
            config=(config, plain)[number % 2].id,
            weights_sha256=f"{place:064x}",
        )
        for number in range(PROCESSES)
        for place, case in enumerate(cases)
    ]
    processes = [
        msgspec.structs.replace(
            quick_run.info.processes[0], id=f"p{number}", config=(config, plain)[number % 2]
        )
        for number in range(PROCESSES)
    ]
    info = msgspec.structs.replace(
        quick_run.info,
        cases=cases,
        configs=[config, plain],
        processes=processes,
        processes_per_config=PROCESSES // 2,
    )
    return msgspec.structs.replace(
        quick_run, info=info, trainings=trainings, epochs_by_training={}, phases=[]
    )


@pytest.fixture(scope="module")
def full(crowded: Run, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of the crowded run, on a phone; every check of it failed."""
    verdicts = [msgspec.structs.replace(one, outcome="fail") for one in judge(Evidence(crowded))]
    content = runs.content(Evidence(crowded), verdicts)
    path = tmp_path_factory.mktemp("crowded") / "report.html"
    path.write_text(page.html(content, {p.name: draw(p) for p in content.pictures}))
    tab = browser.new_page(viewport={"width": PHONE, "height": 900})
    tab.goto(path.as_uri())
    yield tab
    tab.close()


@pytest.fixture(scope="module", params=["light", "dark"])
def shown(request: pytest.FixtureRequest, browser: Any, html: Path) -> Iterator[SimpleNamespace]:
    """The loaded page, with its console output and its requests."""
    tab = browser.new_page(color_scheme=request.param, viewport={"width": 1400, "height": 900})
    messages: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(html.as_uri())
    yield SimpleNamespace(
        tab=tab, messages=messages, requests=requests, theme=request.param, uri=html.as_uri()
    )
    tab.close()


def test_the_console_is_empty(shown: SimpleNamespace) -> None:
    """The console has no error, no warning, and no violation of the page's policy."""
    assert shown.messages == []


def test_no_request_leaves_the_page(shown: SimpleNamespace) -> None:
    """The page is the only request."""
    assert [url for url in shown.requests if not url.startswith("data:")] == [shown.uri]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows(shown: SimpleNamespace, width: int) -> None:
    """Wide tables scroll in their boxes; the page does not."""
    shown.tab.set_viewport_size({"width": width, "height": 900})
    assert shown.tab.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """() => [...document.querySelectorAll('body *')].filter(
        e => !e.closest('.scroll, svg') && e.getBoundingClientRect().right > innerWidth + 1
    ).map(e => e.tagName + ' ' + e.className)"""
    assert shown.tab.evaluate(beyond) == []


def test_hostile_text_is_escaped(shown: SimpleNamespace) -> None:
    """Markup in a reason, a name and a hint is escaped."""
    assert shown.tab.title().startswith("xorbench")
    assert shown.tab.locator("img").count() == 0
    assert shown.tab.get_by_text("onerror=").count() >= 3


def test_a_table_sorts_both_ways_by_the_keyboard(shown: SimpleNamespace) -> None:
    """Enter on a header sorts by number, and sets aria-sort for screen readers."""
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
    """Only rows with all words stay, and their number is shown."""
    table = shown.tab.locator("#table-checks ~ .scroll table")
    box = shown.tab.locator("#table-checks ~ label input")
    box.fill("AND load")
    visible = table.locator("tbody tr:visible td:first-child").all_inner_texts()
    count = shown.tab.locator("#table-checks ~ label span").inner_text()
    box.fill("")
    assert visible == ["save and load"]
    assert count.startswith("1 of ")
    assert table.locator("tbody tr:visible").count() > 5


def test_text_and_plots_can_be_read_in_this_theme(shown: SimpleNamespace) -> None:
    """Texts of the page and its pictures have a contrast of at least 4.5 to 1."""
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


def test_every_picture_is_described_with_its_figures(shown: SimpleNamespace) -> None:
    """Every picture has a name, a description and a link to its data."""
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


def test_the_throughput_table_is_whole_on_a_usual_screen(shown: SimpleNamespace) -> None:
    """At 1,400 pixels every column is visible without scrolling."""
    shown.tab.set_viewport_size({"width": 1400, "height": 900})
    box = shown.tab.locator("#table-throughput ~ .scroll")
    assert box.evaluate("e => e.scrollWidth - e.clientWidth") == 0


def test_a_phone_shows_a_case_and_its_speed(full: Any) -> None:
    """The name and the first figure fit in the window."""
    box = full.locator("#table-throughput ~ .scroll")
    figure = box.locator("tbody tr:first-child td:nth-child(2)").bounding_box()
    assert figure["x"] + figure["width"] <= PHONE


def test_a_table_can_be_scrolled_to_its_end_with_its_names(full: Any) -> None:
    """The first column stays visible, and the last one can be reached."""
    box = full.locator("#table-throughput ~ .scroll")
    box.evaluate("e => e.scrollLeft = e.scrollWidth")
    ends = [
        box.locator(f"tbody tr:first-child td:{end}-child").bounding_box()
        for end in ("first", "last")
    ]
    box.evaluate("e => e.scrollLeft = 0")
    assert ends[0]["x"] >= 0
    assert ends[0]["x"] + ends[0]["width"] < ends[1]["x"] + ends[1]["width"] <= PHONE


def test_a_long_name_leaves_the_page_as_wide_as_the_window(full: Any) -> None:
    """Neither a case nor a failure widens the page."""
    assert full.evaluate("document.documentElement.scrollWidth") <= PHONE


@pytest.mark.parametrize("width", [PHONE, 1000, 1400, 1920])
def test_the_text_in_plots_can_be_read(full: Any, width: int) -> None:
    """Text in plots is at least 9.9 pixels high at any width of window and names."""
    full.set_viewport_size({"width": width, "height": 900})
    smallest = full.evaluate(SMALLEST)
    full.set_viewport_size({"width": PHONE, "height": 900})
    assert smallest >= 9.9


@pytest.mark.parametrize("name", ["throughput", "epochs", "loss", "boundary", "same-bits"])
def test_long_names_leave_room_for_a_plot(full: Any, name: str) -> None:
    """The axes take at least 45% of the width, and no text is cut."""
    result = full.evaluate(BOXES, name)
    svg, axes = result["svg"], result["axes"]
    assert axes["right"] - axes["left"] >= 0.45 * (svg["right"] - svg["left"])
    out = [
        t["text"] for t in result["texts"] if t["left"] < svg["left"] or t["right"] > svg["right"]
    ]
    assert out == []


@pytest.mark.parametrize("name", ["throughput", "same-bits"])
def test_the_names_of_rows_do_not_touch(full: Any, name: str) -> None:
    """Names of rows do not overlap, and they differ."""
    result = full.evaluate(BOXES, name)
    left = [text for text in result["texts"] if text["right"] < result["axes"]["left"]]
    tops = sorted(text["top"] for text in left)
    assert len(left) >= 12
    assert min(low - high for high, low in pairwise(tops)) >= 9


@pytest.mark.parametrize("name", ["epochs", "loss", "boundary"])
def test_a_legend_covers_no_data(full: Any, name: str) -> None:
    """The legend is above the axes."""
    result = full.evaluate(BOXES, name)
    assert result["legend"]["bottom"] <= result["axes"]["top"]
    assert result["legend"]["right"] <= result["svg"]["right"]


def test_each_process_has_its_line(full: Any) -> None:
    """The legend names all eight."""
    legend = full.evaluate(BOXES, "epochs")["legend"]["text"]
    assert all(f"p{number}" in legend for number in range(PROCESSES))


def test_failures_are_one_line_per_check(full: Any) -> None:
    """Further failures of a check are folded under its first one."""
    lines = full.locator(".failures > ul > li")
    folded = full.locator(".failures details li")
    assert folded.count() > lines.count()
    assert not folded.first.is_visible()
    full.locator(".failures summary").first.click()
    assert folded.first.is_visible()


def test_every_digit_of_a_picture_is_in_its_file(crowded: Run) -> None:
    """A picture may show a part; its description has the total, and its file has all."""
    frame = pd.concat([speeds(Evidence(crowded))] * 2, ignore_index=True)
    assert (len(frame), describe_speeds(frame)[:13]) == (48, "40 of 48 bars")


@pytest.mark.parametrize("text", ["2026-11-25T05:02:58+00:00", "20261125T0502Z-1a", "16 passed"])
def test_text_that_begins_with_a_digit_is_not_a_number(text: str) -> None:
    """Times, ids and sentences are aligned and sorted as text."""
    (name,), _ = columns_shown(pd.DataFrame({"name": [text]}))
    (share,), _ = columns_shown(pd.DataFrame({"share": ["499/500", "1.2e-05", "32 64", ""]}))
    assert not name.is_number
    assert share.is_number
