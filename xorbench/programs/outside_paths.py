"""Paths of a program that lead out of its folder, such as `../data`, and are missing in a copy."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".py", ".sh", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini", ".env")
LARGEST_FILE: Final = 1 << 20  # bytes of a file in which paths are looked for
MOST_FILES: Final = 500
# A path above the folder as a program writes it: in quotes, after `=` or `:`, or as a word.
ABOVE: Final = re.compile(r"""(?<![\w./-])((?:\.\./)+[\w.@+-]+(?:/[\w.@+-]+)*)""")


def outside_paths(folder: Path, words: Sequence[str], files: Iterable[str]) -> dict[str, str]:
    """The paths above a folder that exist and that a program names, and the place of each.

    The command's words and the text files of the folder are searched. A path is shortened to its
    first part that is not `..`, so that `../data/MNIST/raw` gives `../data`.
    """
    places: dict[str, str] = {}
    for place, text in _texts(folder, words, files):
        for path in ABOVE.findall(text):
            short = _shortened(path)
            if short not in places and _is_outside(folder, short):
                places[short] = place
    return places


def _texts(folder: Path, words: Sequence[str], files: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield "the command", " ".join(words)
    texts = (path for path in files if path.endswith(SUFFIXES))
    for path, _ in zip(texts, range(MOST_FILES), strict=False):
        with suppress(OSError):
            if (folder / path).stat().st_size <= LARGEST_FILE:
                yield path, (folder / path).read_text(errors="replace")


def _shortened(path: str) -> str:
    parts = path.split("/")
    count = sum(part == ".." for part in parts)
    return "/".join(parts[: count + 1])


def _is_outside(folder: Path, path: str) -> bool:
    """Whether it exists, and is neither the folder nor above it."""
    with suppress(OSError, ValueError):
        target = (folder / path).resolve(strict=True)
        return not folder.resolve().is_relative_to(target) and not target.is_relative_to(
            folder.resolve()
        )
    return False
