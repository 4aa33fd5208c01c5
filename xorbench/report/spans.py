"""Text with code spans as HTML: one renderer for pages and notebooks."""

import re
from typing import Final

from markupsafe import Markup, escape

_SPAN: Final = re.compile(r"`([^`]+)`")
_BREAKS: Final = re.compile(r"(?<=[-@+=_,/])(?=\w)")  # where a long name may wrap


def to_html(text: str, *, breaks: bool = False) -> Markup:
    """The text escaped, `code` as a `<code>` element; `breaks` lets long names wrap.

    An unpaired backtick is kept.
    """
    parts = _SPAN.split(text)  # text and code in turn
    plain = _broken if breaks else escape
    return Markup("").join(
        Markup("<code>{}</code>").format(plain(part)) if is_code else plain(part)
        for is_code, part in ((number % 2 == 1, part) for number, part in enumerate(parts))
    )


def _broken(text: str) -> Markup:
    return Markup("<wbr>").join(_BREAKS.split(text))
