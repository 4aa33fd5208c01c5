"""Texts in files meant for sharing: without secrets and absolute paths, and names where asked."""

import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from xorbench.observe.redaction import Names, names_here
from xorbench.recorder.masking import encodable, masked, masked_words

__all__ = ["Sharing", "encodable", "sharing_here", "shown_command", "shown_words", "texts"]
# A word that needs no quotes: that of an anonymous command is shown as it was before.
PLAIN_WORD: Final = re.compile(r"(?:[\w@%+=:,./~-]|<user>|<host>|<uuid>)+", re.ASCII)
Shared = TypeVar("Shared")


def shown_words(words: Sequence[str]) -> list[str]:
    """The words of a command without secrets, as text."""
    return [encodable(word) for word in masked_words(words)]


def shown_command(words: Sequence[str]) -> str:
    """A command as one would type it, without secrets."""
    shown = shown_words(words)
    return " ".join(word if PLAIN_WORD.fullmatch(word) else shlex.quote(word) for word in shown)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How texts are changed for files that are shared.

    Attributes:
        names: homes, users and hosts of this machine.
        here: the folder that paths are relative to.
        anonymous: remove users and hosts as well.
    """

    names: Names
    here: str
    anonymous: bool = False

    def text(self, text: str) -> str:
        """The text without secrets and absolute paths; without names where it is anonymous."""
        text = relative(encodable(masked(text)), self.here)
        return self.names.masked(text) if self.anonymous else self.names.masked_paths(text)

    def value(self, value: Shared) -> Shared:
        """A value with each of its texts changed."""
        return texts(value, self.text)


def sharing_here(*, anonymous: bool) -> Sharing:
    """The changes for files of this machine, relative to the current folder."""
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        here = ""
    return Sharing(names_here(), here, anonymous)


def relative(text: str, folder: str) -> str:
    """The text with paths below a folder relative to it."""
    if len(folder) < 2:
        return text
    below = rf"(?<![\w.~-]){re.escape(folder)}"
    text = re.sub(below + re.escape(os.sep) + r"(?=[^\s\"'])", "", text)
    return re.sub(below + r"(?![\w.-]|/\w)", ".", text)


def texts(value: Shared, change: Callable[[str], str]) -> Shared:
    """A copy of a value with each of its texts changed, keys of mappings excepted."""
    made: Any = value
    if isinstance(value, str):
        made = change(value)
    elif isinstance(value, Mapping):
        made = {key: texts(item, change) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(texts(item, change) for item in value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value) if field.init)
        made = dataclasses.replace(value, **_changed(value, fields, change))
    elif isinstance(value, msgspec.Struct):
        changed = _changed(value, value.__struct_fields__, change)
        made = msgspec.structs.replace(value, **changed)
    return made  # type: ignore[no-any-return]


def _changed(value: Any, fields: Any, change: Callable[[str], str]) -> dict[str, Any]:
    return {name: texts(getattr(value, name), change) for name in fields}
