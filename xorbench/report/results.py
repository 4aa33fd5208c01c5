"""Short forms of results of the Python API: `repr`, and HTML for notebooks."""

from collections.abc import Sequence

from markupsafe import Markup

from xorbench.errors import PASSED
from xorbench.report.spans import to_html


class PythonResult:
    """A result for Python: true if it passed; `str` is its text.

    `repr` and a notebook show its type, its name and a few lines.
    """

    __slots__ = ()
    exit_code: int
    text: str

    def _brief(self) -> tuple[str, Sequence[str]]:
        """The name, which may be empty, and a few lines."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return self.exit_code == PASSED

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return brief_text(type(self).__name__, *self._brief())

    def _repr_html_(self) -> str:
        return brief_html(type(self).__name__, *self._brief())


def brief_text(kind: str, name: str, lines: Sequence[str]) -> str:
    """The type and the name of a result, then its lines."""
    return "\n".join(
        [f"<{kind} {name}>" if name else f"<{kind}>", *(f"  {line}" for line in lines)]
    )


def brief_html(kind: str, name: str, lines: Sequence[str]) -> str:
    """`brief_text` as HTML; every text is escaped."""
    items = Markup("").join(Markup("<li>{}</li>").format(to_html(line)) for line in lines)
    return str(Markup("<p><strong>{}</strong> {}</p><ul>{}</ul>").format(kind, name, items))
