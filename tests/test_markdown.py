"""Every page of the repository and every report renders on GitHub: tables, links, anchors."""

import subprocess
from pathlib import Path

import pytest
from gfm import anchors, parsed, problems, targets

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT)
    for folder in (ROOT, ROOT / "docs", ROOT / "examples", ROOT / "results")
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if not {"runs", "checks", "latest"} & set(path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_renders(page: Path) -> None:
    """Each table is a table, each link leads to a file and each anchor to a heading."""
    assert problems((ROOT / page).read_text(), ROOT / page) == []


def test_the_reports_of_a_run_render(copied: Path) -> None:
    """`report.md` of a real run."""
    assert problems((copied / "report.md").read_text(), copied / "report.md") == []


def test_the_page_of_results_links_each_reference_report() -> None:
    """With a line about it; and shows a picture of the reference."""
    page = ROOT / "results" / "README.md"
    linked = {target.partition("#")[0] for target, _ in targets(parsed(page.read_text()))}
    reports = (ROOT / "results" / "reference").rglob("*.md")
    assert {str(path.relative_to(page.parent)) for path in reports} <= linked
    assert "reference/epyc-2core-cpu/plots/throughput.svg" in linked


def test_no_page_is_left_out() -> None:
    """Every Markdown file that git tracks is among the pages, but those of the tests."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a clone of the repository")
    tracked = {Path(name) for name in listed.stdout.split() if not name.startswith("tests/")}
    assert {path for path in tracked if (ROOT / path).exists()} <= set(PAGES)


TABLE = "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TABLE.replace("| --- |", "|"), "line 1: not rendered as a table: | a | b |"),
        (TABLE + "| 3 |\n", "line 4: 1 cells under a header of 2"),
        (TABLE + "| 3 | 4 | 5 |\n", "line 4: 3 cells under a header of 2"),
        (TABLE + "| `3|4` | 5 |\n", "line 4: 3 cells under a header of 2"),
        ("text\n| a | b |\n", "line 2: not rendered as a table: | a | b |"),
        ("[a](gone.md)", "line 1: no file gone.md"),
        ("![a](gone.png)", "line 1: no file gone.png"),
        ("[a](page.md#there)", "line 1: no heading page.md#there"),
        ("# Here\n\n[a](#there)", "line 3: no heading #there"),
    ],
    ids=[
        *("short delimiter row", "short row", "long row", "border within code", "no delimiter row"),
        *("link", "image", "anchor of a page", "anchor"),
    ],
)
def test_a_fault_of_a_page_is_reported(text: str, problem: str, tmp_path: Path) -> None:
    """The check can fail, on each fault that it looks for."""
    page = tmp_path / "page.md"
    page.write_text(text)
    assert problem in problems(text, page)


def test_a_sound_page_has_no_problem(tmp_path: Path) -> None:
    """An escaped border, a table within a fence, addresses, and anchors of every kind."""
    page = tmp_path / "page.md"
    page.write_text(
        f"# A `b` & c, d\n\n## Same\n## Same\n\n{TABLE}| 3\\|4 | 5 |\n\n```text\n| a\n```\n"
        "[a](#a-b--c-d) [b](page.md#same-1) [c](https://example.org/#x) [d](.)"
    )
    assert problems(page.read_text(), page) == []


def test_anchors_are_those_of_github() -> None:
    """Letters, digits, `_` and `-` stay, spaces become hyphens, a second one is numbered."""
    text = "# `to(device)`: what?\n# Äpfel und 3_4\n# [Link](x.md)\n# Same\n# Same\n"
    found = list(anchors(parsed(text)))
    assert found == ["todevice-what", "äpfel-und-3_4", "link", "same", "same-1"]
