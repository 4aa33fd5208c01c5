"""A drawn picture inside a page; unlike the drawing code, fast to import."""

import re
from typing import Final

# Lines, text and background; a page replaces them by its own light or dark colours.
INK: Final = "#1a1a1b"
PAPER: Final = "#fffffe"


def inline(svg: str, name: str) -> str:
    """The picture for a page: in the page's colours, with ids that are unique in the page."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)
