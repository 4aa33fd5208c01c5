"""Removes secrets, paths, and names of the machine and its user from shared files and texts.

Names, ids and keys are structure: they are unchanged even if they contain the host name, since
other lines refer to them. Free text loses home, user, host, absolute paths and device UUIDs.
"""

import dataclasses
import getpass
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from xorbench.recorder.masking import encodable, masked, masked_words

Shared = TypeVar("Shared")

# The values of these keys are structure and are not changed.
STRUCTURE: Final = frozenset(
    {
        "architecture", "calibration_version", "case", "cases", "check", "cpu", "cpu_capability",
        "device", "digest", "digests", "dtype", "engine", "epoch_digests", "epochs_sha256", "fault",
        "faults", "hex", "id", "inputs_sha256", "key", "kind", "losses", "name",
        "numpy_version", "outcome", "plan", "predictions", "probe", "process", "python_version",
        "recipe", "recipe_sha256", "reloaded_sha256", "run", "slot", "torch_version",
        "warmup_epoch_digests", "weights", "weights_sha256", "xorbench_version",
    }
)  # fmt: skip
# The values of these keys are ids that may contain the path of an interpreter or a library.
WITH_PATHS: Final = frozenset({"config", "configs", "env", "python", "subject"})

_QUOTED_PATH = re.compile(r"(?P<quote>[\"'])/(?!/)[^\"'\n]*/(?P<last>[^\"'/\n]+)(?P=quote)")
# A path may begin a word or follow an option of one letter: -I/usr/include.
_BEGINS = r"(?:(?<![\w./~<-])|(?<=\s-[A-Za-z])|(?<=^-[A-Za-z]))"
_ABSOLUTE_PATH = re.compile(_BEGINS + r"/(?!/)(?:[^\s/\"':;,()]+/)*([^\s/\"':;,()]+)")
_DEVICE_UUID = re.compile(
    r"\b(?:GPU-|MIG-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)
# A word that needs no quotes, including the masks of an anonymous command.
_PLAIN_WORD = re.compile(r"(?:[\w@%+=:,./~-]|<user>|<host>|<uuid>)+", re.ASCII)
_HOME = re.compile(r"/(?:home|Users)/(?P<user>[^/\s:\"']+)")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a machine and its user: home folders, user names, host names."""

    homes: tuple[str, ...]
    users: tuple[str, ...]
    hosts: tuple[str, ...]

    def masked_paths(self, text: str) -> str:
        """The text with `~` for a home; any other absolute path is reduced to its last part."""
        text = text.replace("file:///", "/")
        for home in self.homes:
            text = re.sub(rf"{_BEGINS}{re.escape(home)}(?![\w.-])", "~", text)
        text = _QUOTED_PATH.sub(r"\g<quote>\g<last>\g<quote>", text)
        return _DEVICE_UUID.sub("<uuid>", _ABSOLUTE_PATH.sub(r"\1", text))

    def masked(self, text: str) -> str:
        """The text without paths, users and hosts; whole words, in upper or lower case."""
        text = self.masked_paths(text)
        for words, mask in ((self.hosts, "<host>"), (self.users, "<user>")):
            for word in words:
                text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", mask, text, flags=re.I)
        return text


@cache
def local_names() -> Names:
    """The names of this machine and its user."""
    host, homes, users = socket.gethostname(), [os.path.expanduser("~")], []  # noqa: PTH111 - it never raises
    with suppress(OSError, KeyError, ImportError):  # no such user on the system
        users.append(getpass.getuser())
    with suppress(KeyError, ImportError):
        import pwd

        homes.append(pwd.getpwuid(os.getuid()).pw_dir)  # HOME may be another folder
    users += [match["user"] for match in map(_HOME.search, homes) if match]
    return _names(homes, users, [host])


def names_in(record: Mapping[str, Any]) -> Names:
    """The names of this machine, and those recorded in a `run.json`."""
    local, text = local_names(), repr(record)
    hosts = [str(host) for host in _values(record, "hostname")]
    imported = record.get("imported") or {}
    hosts += [str(host) for host in _values(imported.get("machine_info"), "node")]
    homes = {match[0]: match["user"] for match in _HOME.finditer(text)}
    return _names([*homes, *local.homes], [*homes.values(), *local.users], [*hosts, *local.hosts])


def _values(value: Any, key: str) -> Iterable[Any]:
    """All values of a key, at any depth."""
    if isinstance(value, Mapping):
        yield from (item for name, item in value.items() if name == key)
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _values(item, key)


def _names(homes: Sequence[str], users: Sequence[str], hosts: Sequence[str]) -> Names:
    """The names without duplicates, longest first; hosts also by their short names."""
    short = [host.partition(".")[0] for host in hosts]
    return Names(
        _ordered(home for home in homes if len(home) > 1 and home != "~"),
        _ordered(users),
        _ordered([*hosts, *short]),
    )


def _ordered(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for word in words if word}, key=lambda word: (-len(word), word)))


def without_names(value: Any, names: Names | None = None, key: str = "") -> Any:
    """A value that can be shared; the values of structure keys are unchanged."""
    names = names or local_names()
    if key in STRUCTURE:
        return value
    if isinstance(value, str):
        return names.masked_paths(value) if key in WITH_PATHS else names.masked(value)
    if isinstance(value, Mapping):
        inner = key if key in WITH_PATHS else ""
        return {name: without_names(item, names, inner or name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(item, names, key) for item in value]
    return value


# Texts


def shown_words(words: Sequence[str]) -> list[str]:
    """The words of a command without secrets, as text."""
    return [encodable(word) for word in masked_words(words)]


def shown_command(words: Sequence[str]) -> str:
    """A command as typed in a shell, without secrets."""
    shown = shown_words(words)
    return " ".join(word if _PLAIN_WORD.fullmatch(word) else shlex.quote(word) for word in shown)


@dataclass(frozen=True, slots=True)
class Sharing:
    """The changes of texts in shared files.

    Attributes:
        names: homes, users and hosts of this machine.
        folder: the folder that paths are relative to.
        anonymous: remove users and hosts as well.
    """

    names: Names
    folder: str
    anonymous: bool = False

    def text(self, text: str) -> str:
        """The text without secrets and absolute paths; also without names if anonymous."""
        text = relative(encodable(masked(text)), self.folder)
        return self.names.masked(text) if self.anonymous else self.names.masked_paths(text)

    def value(self, value: Shared) -> Shared:
        """A value with each of its texts changed."""
        return texts(value, self.text)


def local_sharing(*, anonymous: bool) -> Sharing:
    """The changes for files of this machine, with paths relative to the current folder."""
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        folder = ""
    return Sharing(local_names(), folder, anonymous)


def relative(text: str, folder: str) -> str:
    """The text with paths below a folder relative to it."""
    if len(folder) < 2:
        return text
    below = rf"(?<![\w.~-]){re.escape(folder)}"
    text = re.sub(below + re.escape(os.sep) + r"(?=[^\s\"'])", "", text)
    return re.sub(below + r"(?![\w.-]|/\w)", ".", text)


def texts(value: Shared, change: Callable[[str], str]) -> Shared:
    """A copy of a value with each text changed, except for keys of mappings."""
    copy: Any = value
    if isinstance(value, str):
        copy = change(value)
    elif isinstance(value, Mapping):
        copy = {key: texts(item, change) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        copy = type(value)(texts(item, change) for item in value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        copy = dataclasses.replace(value, **_changed(value, fields, change))
    elif isinstance(value, msgspec.Struct):
        changed = _changed(value, value.__struct_fields__, change)
        copy = msgspec.structs.replace(value, **changed)
    return copy  # type: ignore[no-any-return]


def _changed(value: Any, fields: Iterable[str], change: Callable[[str], str]) -> dict[str, Any]:
    return {name: texts(getattr(value, name), change) for name in fields}
