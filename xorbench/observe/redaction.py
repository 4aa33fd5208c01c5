"""What names a machine or its user, and how it is taken out of what is written.

Names, ids and keys are structure: they stay as they are, whatever the host is called, since other
lines refer to them. Free text loses the home, the user, the host, absolute paths and device UUIDs.
"""

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

# Under these keys stands structure: nothing in it is touched.
KEPT: Final = frozenset(
    {
        "architecture", "calibration_version", "case", "cases", "check", "cpu", "cpu_capability",
        "device", "digest", "digests", "dtype", "engine", "epoch_digests", "epochs_sha256", "fault",
        "faults", "hex", "id", "inputs_sha256", "key", "kind", "losses", "name",
        "numpy_version", "outcome", "plan", "predictions", "probe", "process", "python_version",
        "recipe", "recipe_sha256", "reloaded_sha256", "run", "slot", "torch_version",
        "warmup_epoch_digests", "weights", "weights_sha256", "xorbench_version",
    }
)  # fmt: skip
# Under these stand ids that may hold the path of an interpreter or of a library.
WITH_PATHS: Final = frozenset({"config", "configs", "env", "python", "subject"})

_QUOTED_PATH = re.compile(r"(?P<quote>[\"'])/(?!/)[^\"'\n]*/(?P<last>[^\"'/\n]+)(?P=quote)")
# A path may begin a word, or follow an option of one letter: -I/usr/include.
_BEGINS = r"(?:(?<![\w./~<-])|(?<=\s-[A-Za-z])|(?<=^-[A-Za-z]))"
_ABSOLUTE_PATH = re.compile(_BEGINS + r"/(?!/)(?:[^\s/\"':;,()]+/)*([^\s/\"':;,()]+)")
_DEVICE_UUID = re.compile(
    r"\b(?:GPU-|MIG-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)
_HOME = re.compile(r"/(?:home|Users)/(?P<user>[^/\s:\"']+)")


@dataclass(frozen=True, slots=True)
class Names:
    """What a machine and its user are called: homes, user names, host names."""

    homes: tuple[str, ...]
    users: tuple[str, ...]
    hosts: tuple[str, ...]

    def masked_paths(self, text: str) -> str:
        """The text with `~` for a home; of another absolute path its last part stays."""
        text = text.replace("file:///", "/")
        for home in self.homes:
            text = re.sub(rf"{_BEGINS}{re.escape(home)}(?![\w.-])", "~", text)
        text = _QUOTED_PATH.sub(r"\g<quote>\g<last>\g<quote>", text)
        return _DEVICE_UUID.sub("<uuid>", _ABSOLUTE_PATH.sub(r"\1", text))

    def masked(self, text: str) -> str:
        """The same, and neither user nor host: whole words, in upper or lower case."""
        text = self.masked_paths(text)
        for words, mask in ((self.hosts, "<host>"), (self.users, "<user>")):
            for word in words:
                text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", mask, text, flags=re.I)
        return text


@cache
def names_here() -> Names:
    """What this machine and its user are called."""
    host, homes, users = socket.gethostname(), [os.path.expanduser("~")], []  # noqa: PTH111 - it never raises
    with suppress(OSError, KeyError, ImportError):  # no such user on the system
        users.append(getpass.getuser())
    with suppress(KeyError, ImportError):
        import pwd

        homes.append(pwd.getpwuid(os.getuid()).pw_dir)  # HOME may be another folder
    users += [match["user"] for match in map(_HOME.search, homes) if match]
    return _names(homes, users, [host])


def names_in(record: Mapping[str, Any]) -> Names:
    """The same of this machine and, as far as it is recorded, of the one of a `run.json`."""
    here, text = names_here(), repr(record)
    hosts = [str(host) for host in _values(record, "hostname")]
    imported = record.get("imported") or {}
    hosts += [str(host) for host in _values(imported.get("machine_info"), "node")]
    homes = {match[0]: match["user"] for match in _HOME.finditer(text)}
    return _names([*homes, *here.homes], [*homes.values(), *here.users], [*hosts, *here.hosts])


def _values(value: Any, key: str) -> Iterable[Any]:
    """Everything that stands under a key, however deep."""
    if isinstance(value, Mapping):
        yield from (item for name, item in value.items() if name == key)
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _values(item, key)


def _names(homes: Sequence[str], users: Sequence[str], hosts: Sequence[str]) -> Names:
    """Each once, longer ones first; a host by its short name too."""
    short = [host.partition(".")[0] for host in hosts]
    return Names(
        _ordered(home for home in homes if len(home) > 1 and home != "~"),
        _ordered(users),
        _ordered([*hosts, *short]),
    )


def _ordered(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for word in words if word}, key=lambda word: (-len(word), word)))


def without_names(value: Any, names: Names | None = None, key: str = "") -> Any:
    """A value as it may be given away; what stands under a key of structure is as it was."""
    names = names or names_here()
    if key in KEPT:
        return value
    if isinstance(value, str):
        return names.masked_paths(value) if key in WITH_PATHS else names.masked(value)
    if isinstance(value, Mapping):
        inner = key if key in WITH_PATHS else ""
        return {name: without_names(item, names, inner or name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(item, names, key) for item in value]
    return value
