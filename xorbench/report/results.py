"""Results of the Python API in a few lines: as `repr`, and as HTML for notebooks."""

from collections.abc import Sequence

from markupsafe import Markup

from xorbench.report.spans import to_html


def brief_text(kind: str, name: str, lines: Sequence[str]) -> str:
    """The type and the name of a result, then its lines."""
    return "\n".join(
        [f"<{kind} {name}>" if name else f"<{kind}>", *(f"  {line}" for line in lines)]
    )


def brief_html(kind: str, name: str, lines: Sequence[str]) -> str:
    """The same for a notebook; every text is escaped."""
    items = Markup("").join(Markup("<li>{}</li>").format(to_html(line)) for line in lines)
    return str(Markup("<p><strong>{}</strong> {}</p><ul>{}</ul>").format(kind, name, items))
