"""`report.html`: the whole report as one file that needs no network."""

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xorbench.judge.checks import summary
from xorbench.report import document
from xorbench.report.content import Content, Section
from xorbench.report.text import footnoted, readable


def html(content: Content, drawn: Mapping[str, str]) -> str:
    """The page, with the pictures drawn by name; everything but our own pictures is escaped."""
    environment = Environment(
        loader=PackageLoader("xorbench.report"), autoescape=True, undefined=StrictUndefined
    )
    pictures = [(p.caption, _inline(drawn[p.name])) for p in content.pictures if drawn[p.name]]
    return environment.get_template("report.html.jinja").render(
        title=f"xorbench {content.id}",
        verdict=summary(content.verdicts),
        failed=any(verdict.outcome == "fail" for verdict in content.verdicts),
        failures=document.failures(content.verdicts),
        heading=content.heading,
        pictures=pictures,
        tables=[_table(section) for section in content.sections if not section.frame.empty],
    )


def _table(section: Section) -> dict[str, object]:
    table, notes = footnoted(readable(section.frame))
    return {
        "title": section.title,
        "about": section.about.replace("`", ""),
        "columns": list(table.columns),
        "rows": table.to_numpy().tolist(),
        "notes": notes,
    }


def _inline(svg: str) -> Markup:
    """The picture without its XML declaration; matplotlib has escaped the text in it."""
    return Markup(svg[svg.index("<svg") :])
