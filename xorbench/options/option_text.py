"""Texts that name options: `--kill-after` on the command line, `kill_after` in Python."""

from string import Formatter
from typing import Any, Self


class OptionText(str):
    """A text as the command line shows it; `python` is the text as Python shows it.

    A text made of it, such as a slice, is a plain text of the command line.
    """

    python: str

    def __new__(cls, text: str, python: str | None = None) -> Self:
        """Both spellings of one text; without the second, both are equal."""
        both = super().__new__(cls, text)
        both.python = text if python is None else python
        return both


def flag(name: str) -> str:
    """An option as the command line spells it."""
    return f"--{name.replace('_', '-')}"


def option(name: str, metavar: str = "") -> OptionText:
    """The name of an option; the command line shows the metavar behind it."""
    return OptionText(f"{flag(name)} {metavar}".rstrip(), name)


def option_text(template: str, **values: object) -> OptionText:
    """A text with options by their names in Python, such as `give it longer with {timeout}`.

    A field that `values` holds is no option: it is replaced by its value.
    """
    names = {name for _, name, _, _ in Formatter().parse(template) if name} - values.keys()
    shown = {**values, **{name: option(name) for name in names}}
    in_python = {name: python_text(value) for name, value in shown.items()}
    return OptionText(template.format(**shown), template.format(**in_python))


def python_text(text: Any) -> Any:
    """A text as Python shows it; a value that names no option is unchanged."""
    return text.python if isinstance(text, OptionText) else text
