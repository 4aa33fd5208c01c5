"""Texts that name options: `--kill-after` on the command line, `kill_after` in Python."""

from string import Formatter
from typing import Any, Self


class OptionText(str):
    """A text for the command line; `python` is the text for Python.

    A derived text, such as a slice, is a plain text for the command line.
    """

    python: str

    def __new__(cls, text: str, python: str | None = None) -> Self:
        """Make a text; without `python`, both spellings are equal."""
        option_text = super().__new__(cls, text)
        option_text.python = text if python is None else python
        return option_text


def flag(name: str) -> str:
    """Return the flag of an option."""
    return f"--{name.replace('_', '-')}"


def option(name: str, metavar: str = "") -> OptionText:
    """Return the name of an option, with its metavar on the command line."""
    return OptionText(f"{flag(name)} {metavar}".rstrip(), name)


def option_text(template: str, **values: object) -> OptionText:
    """Fill a template that names options as in Python, such as `raise {timeout}`.

    A field in `values` is replaced by its value.
    """
    names = {name for _, name, _, _ in Formatter().parse(template) if name} - values.keys()
    shown = {**values, **{name: option(name) for name in names}}
    in_python = {name: python_text(value) for name, value in shown.items()}
    return OptionText(template.format(**shown), template.format(**in_python))


def python_text(text: Any) -> Any:
    """Return a text as Python shows it, any other value unchanged."""
    return text.python if isinstance(text, OptionText) else text
