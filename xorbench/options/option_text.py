"""Texts that name options: `--kill-after` on the command line, `kill_after` in Python."""

from string import Formatter
from typing import Any, Self


class OptionText(str):
    """A text for the command line; `python` is the text for Python.

    A text derived from it, such as a slice, is a plain text for the command line.
    """

    python: str

    def __new__(cls, text: str, python: str | None = None) -> Self:
        """Make a text with both spellings; without `python`, both are equal."""
        both = super().__new__(cls, text)
        both.python = text if python is None else python
        return both


def flag(name: str) -> str:
    """The name of an option on the command line."""
    return f"--{name.replace('_', '-')}"


def option(name: str, metavar: str = "") -> OptionText:
    """The name of an option; the command line shows the metavar after it."""
    return OptionText(f"{flag(name)} {metavar}".rstrip(), name)


def option_text(template: str, **values: object) -> OptionText:
    """Format a text with option names in Python's spelling, such as `set a longer {timeout}`.

    A field in `values` is replaced by its value; all other fields are options.
    """
    names = {name for _, name, _, _ in Formatter().parse(template) if name} - values.keys()
    shown = {**values, **{name: option(name) for name in names}}
    in_python = {name: python_text(value) for name, value in shown.items()}
    return OptionText(template.format(**shown), template.format(**in_python))


def python_text(text: Any) -> Any:
    """A text with Python's names of options; any other value is unchanged."""
    return text.python if isinstance(text, OptionText) else text
