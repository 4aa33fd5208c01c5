"""Markdown as GitHub renders it: tables, links and anchors that do not come out as written."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

# GitHub ignores the cells of a row beyond its header, and fills a short row with empty ones.
CELL_BORDER = re.compile(r"(?<!\\)\|")
TABLE_LINE = re.compile(r" {0,3}\|")
DELIMITER_ROW = re.compile(r" {0,3}\|?( *:?-+:? *\|)+( *:?-+:? *)?")
ANCHOR_TAG = re.compile(r"<a\s[^>]*\b(?:id|name)=\"([^\"]+)\"")
LITERAL = {"fence", "code_block", "html_block"}
# GitHub's links of bare addresses need another package; they change no table and no relative link.
GFM = MarkdownIt("gfm-like", {"linkify": False})


def parsed(text: str) -> list[Token]:
    """The tokens of a page: CommonMark with GitHub's tables and strikethrough."""
    return GFM.parse(text)


def problems(text: str, path: Path) -> list[str]:
    """Each table, link or image of a page that does not work, with its line."""
    tokens = parsed(text)
    return [*table_problems(text, tokens), *link_problems(tokens, path)]


def table_problems(text: str, tokens: list[Token]) -> Iterator[str]:
    """Lines of a table that are not rendered as a table, and rows of another width."""
    lines = text.splitlines()
    in_table = set(_lines_of(tokens, {"table_open"}))
    literal = set(_lines_of(tokens, LITERAL))
    for number, line in enumerate(lines):
        looks_so = TABLE_LINE.match(line) or DELIMITER_ROW.fullmatch(line)
        if looks_so and number not in in_table | literal:
            yield f"line {number + 1}: not rendered as a table: {line[:60]}"
    for token in tokens:
        if token.type == "table_open" and token.map:
            first, end = token.map
            for number in range(first + 1, end):
                if (cells := _cells(lines[number])) != (wanted := _cells(lines[first])):
                    yield f"line {number + 1}: {cells} cells under a header of {wanted}"


def _lines_of(tokens: list[Token], types: set[str]) -> Iterator[int]:
    for token in tokens:
        if token.type in types and token.map:
            yield from range(*token.map)


def _cells(line: str) -> int:
    return len(CELL_BORDER.split(line.strip().removeprefix("|").removesuffix("|")))


def link_problems(tokens: list[Token], path: Path) -> Iterator[str]:
    """Relative links and images without a file, and anchors without a heading."""
    for target, line in targets(tokens):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file = path.parent / unquote(name) if name else path
        if not file.exists():
            yield f"line {line}: no file {target}"
        elif anchor and file.suffix == ".md" and anchor not in _file_anchors(file):
            yield f"line {line}: no heading {target}"


def targets(tokens: list[Token]) -> Iterator[tuple[str, int]]:
    """Where each link and image of a page leads, with the line of its paragraph."""
    for token in tokens:
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                yield str(target), (token.map or [0])[0] + 1


@cache
def _file_anchors(file: Path) -> frozenset[str]:
    return frozenset(anchors(parsed(file.read_text())))


def anchors(tokens: list[Token]) -> Iterator[str]:
    """The anchor of each heading, as GitHub makes it, and each `<a id=…>`."""
    counts: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            slug = heading_slug(inline)
            number = counts.get(slug, 0)
            counts[slug] = number + 1
            yield f"{slug}-{number}" if number else slug
    for token in tokens:
        for part in (token, *(token.children or [])):
            if part.type.startswith("html"):
                yield from ANCHOR_TAG.findall(part.content)


def heading_slug(inline: Token) -> str:
    """The text of a heading in lower case, without punctuation, spaces as hyphens."""
    shown = "".join(c.content for c in inline.children or [] if c.type in {"text", "code_inline"})
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
