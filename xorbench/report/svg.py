"""A drawn picture as a part of a page. What draws it is slow to import, and this is not."""

import re
from typing import Final

# Lines, text and background: a page has its own colours in their place, light or dark.
INK: Final = "#1a1a1b"
PAPER: Final = "#fffffe"


def inline(svg: str, name: str) -> str:
    """The picture as a part of a page: in the page's colours, its ids apart from others'."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)
