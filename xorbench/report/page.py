"""`report.html`: the whole report as one file that needs no network."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xorbench.answers import Answer
from xorbench.report import document
from xorbench.report.content import Content, Drawn, Picture, Section, drawn_by_name
from xorbench.report.spans import to_html
from xorbench.report.svg import inline
from xorbench.report.text import NO_INTERVAL, shown, to_csv
from xorbench.stats.figure import Figure
from xorbench.verdicts import Verdict, summary, worst

PagePart = dict[str, Any]
# Rows of the heading at the top of the page; the rest is in the environment section.
FIRST: Final = ("training", "machine", "accelerator", "software", "started", "INJECTED FAULTS")
OUTCOMES: Final = ("pass", "fail", "inconclusive", "skipped")
LONG: Final = 48  # characters from which a cell may wrap
NARROW: Final = 16  # characters from which a cell may wrap in a narrow window
UNQUOTED: Final = ",;:/()[]@!*=+~?'"


def html(content: Content, drawn: Mapping[str, Drawn] | None = None) -> str:
    """The page with its pictures; everything except the pictures is escaped.

    `drawn` are the already drawn pictures by name.
    """
    drawn = drawn_by_name(content) if drawn is None else drawn
    environment = Environment(
        loader=PackageLoader("xorbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = to_html
    figures = [_figure(p, drawn[p.name]) for p in content.pictures if drawn[p.name].svg]
    sections = [_section(s, figures[1:]) for s in content.sections if not s.frame.empty]
    shown = {figure["name"] for section in sections for figure in section["figures"]}
    return environment.get_template("report.html.jinja").render(
        classes=_classes,
        shown=_shown,
        title=f"xorbench {content.id}",
        answers=content.answers or [_checks_answer(content)],
        summary=summary(content.verdicts) if content.verdicts else "",
        failures=_failures(content.verdicts),
        first=[row for row in content.heading if row[0] in FIRST or not content.environment],
        heading=content.heading,
        lead=figures[0] if figures else None,
        unplaced=[figure for figure in figures[1:] if figure["name"] not in shown],
        sections=sections,
        environment=content.environment,
        again=content.again,
        not_tested=content.not_tested,
    )


def _checks_answer(content: Content) -> Answer:
    return Answer("Checks", worst(content.verdicts), summary(content.verdicts))


def _failures(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """The failures as lines, by check."""
    bad = [verdict for verdict in verdicts if verdict.outcome == "fail"]
    return [document.failures(list(own)) for _, own in groupby(bad, key=lambda v: v.check)]


def _section(section: Section, figures: list[PagePart]) -> PagePart:
    columns, notes = shown(section.frame)
    return {
        "id": "table-" + section.name.replace(" ", "-"),
        "title": section.title,
        "about": section.about,
        "columns": [(column.name, column.is_number) for column in columns],
        "rows": list(zip(*(column.cells for column in columns), strict=True)),
        "notes": notes,
        "csv": None if section.csv is None else _link(to_csv(section.csv)),
        "name": section.name,
        "figures": [figure for figure in figures if figure["under"] == section.name],
    }


def _classes(cell: Figure | str, is_number: bool) -> str:
    """The CSS class of a cell, which never contains text of the cell."""
    if isinstance(cell, Figure):
        return "number interval" if cell.text() else "number"
    if is_number:
        return "number"
    if cell in OUTCOMES:
        return cell
    return "long" if len(cell) > LONG else "name" if len(cell) > NARROW else ""


def _shown(cell: Figure | str) -> Markup:
    """The cell's text, with marks where it may wrap."""
    if isinstance(cell, str):
        return to_html(cell, breaks=len(cell) > LONG)
    if not cell.text():
        return Markup()
    return Markup("{} <span>{}</span>").format(cell.centre(), cell.interval(no_bounds=NO_INTERVAL))


def _figure(picture: Picture, drawn: Drawn) -> PagePart:
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.caption,
        "description": drawn.description,
        "under": picture.under,
        # matplotlib has escaped the text in it
        "svg": Markup(_described(inline(drawn.svg, picture.name), picture.name)),
        "csv": _link(to_csv(drawn.frame)),
    }


def _described(svg: str, name: str) -> str:
    """The picture as one image, named and described by the texts of its figure."""
    names = f'role="img" aria-labelledby="{name}-title" aria-describedby="{name}-description"'
    return svg.replace("<svg ", f"<svg {names} ", 1)


def _link(csv: str) -> str:
    return f"data:text/csv;charset=utf-8,{quote(csv, safe=UNQUOTED)}"
