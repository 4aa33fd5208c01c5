"""The content of the files that a run saves, and which of them differ between two runs.

A file is read as bytes and never loaded: an archive of `torch.save` by its members, safetensors and
NumPy files by tensor, text without times and paths. The names of the tensors in an archive are read
from the opcodes of its pickle, none of which is executed.
"""

import hashlib
import json
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

from xorbench.verdicts import counted, some

FILES: Final = "files.json"
LARGEST_TOTAL: Final = 4 << 30  # bytes of the files of a run that are read
LARGEST_TEXT: Final = 4 << 20  # bytes of a text that is compared line by line
LARGEST_PICKLE: Final = 16 << 20  # bytes of a pickle in which names of tensors are looked for
LARGEST_HEADER: Final = 100 << 20  # bytes of a header of safetensors
MOST_NAMED: Final = 5  # files that a line names
MOST_PARTS: Final = 20_000  # of a file
CHUNK: Final = 1 << 20
REMOVED: Final = -1  # the size of a file that the run has removed

Parts = dict[str, str]  # the digest of each part of a file, by name

# The parts of a text that differ between equal runs: times, durations, paths, process ids.
VARIABLE: Final = re.compile(
    r"""
    \d{4}-\d\d-\d\d([T\s_]\d\d[:-]?\d\d([:-]?\d\d)?([.,]\d+)?(Z|[+-]\d\d:?\d\d)?)?  # a date
    | \b\d?\d:\d\d(:\d\d)?([.,]\d+)?\b                                            # a time of day
    | \b1[5-9]\d{8}(\.\d+)?\b                                                     # seconds of Unix
    | \b\d+(\.\d+)?(e[+-]\d+)?\s*(ns|µs|us|ms|s|sec|secs|seconds|min|it/s|s/it)\b
    | (/[\w.@+-]+){2,}/?                                                          # a path
    | \bpid[ =:]+\d+
    """,
    re.VERBOSE | re.IGNORECASE,
)
TIMED: Final = re.compile(
    r"(time|date|second|duration|elapsed|runtime|per_s|speed|throughput|latency|path|dir|host|pid)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SavedFile:
    """The content of a file, by digests.

    Attributes:
        path: where it is in the working folder.
        size: its bytes.
        digest: of all bytes, SHA-256; empty for a file that was not read.
        parts: the digest of each part, by name: a tensor, a member, a line; empty if it has none.
    """

    path: str
    size: int
    digest: str
    parts: Parts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileComparison:
    """The files that two runs both saved.

    Attributes:
        identical: paths of files with the same content.
        different: each other one, with the parts that differ in words.
        unread: paths of files that are too large, or could not be read.
    """

    identical: tuple[str, ...] = ()
    different: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The result in one line; empty if no file was compared."""
        parts = [f"{counted(len(self.identical), 'file')} identical"] if self.identical else []
        return "; ".join([*parts, *([self.difference] if self.different else [])])

    @property
    def difference(self) -> str:
        """The files that differ, with their parts."""
        names = [f"{path} ({where})" if where else path for path, where in self.different]
        verb = "differs" if len(names) == 1 else "differ"
        return f"{some(names, MOST_NAMED)} {verb}"


def compared_files(folders: Sequence[Path]) -> FileComparison:
    """Compare the files of each run with those of the first; the folders are those of the runs."""
    first, *others = (saved_files(folder) for folder in folders)
    return _merged([compare_files(first, other) for other in others])


def compared_after_resume(whole: Path, killed: Path, resumed: Path) -> FileComparison:
    """Compare the files of the whole run with those in the folder of a killed and resumed one."""
    left = {file.path: file for folder in (killed, resumed) for file in _written(folder)}
    return compare_files(saved_files(whole), [f for f in left.values() if f.size != REMOVED])


def _merged(results: Sequence[FileComparison]) -> FileComparison:
    different = {path: where for result in results for path, where in result.different}
    unread = dict.fromkeys(path for result in results for path in result.unread)
    identical = dict.fromkeys(path for result in results for path in result.identical)
    return FileComparison(
        tuple(path for path in identical if path not in different | unread),
        tuple(different.items()),
        tuple(unread),
    )


def read_files(folder: Path, paths: Iterable[str]) -> list[SavedFile]:
    """The content of files in a folder, of the first `LARGEST_TOTAL` bytes of all."""
    files, total = [], 0
    for path in paths:
        place = folder / path
        with suppress(OSError):
            size = place.stat().st_size
            total += size
            readable = total <= LARGEST_TOTAL
            files.append(_read(place, path) if readable else SavedFile(path, size, ""))
    return files


def write_files(folder: Path, files: Sequence[SavedFile], removed: Iterable[str] = ()) -> None:
    """Write the digests next to the records of a run, and the paths of removed files."""
    rows = [[file.path, file.size, file.digest, file.parts] for file in files]
    rows += [[path, REMOVED, "", {}] for path in removed]
    (folder / FILES).write_text(json.dumps(rows))


def saved_files(folder: Path) -> list[SavedFile]:
    """The files that a run saved and did not remove."""
    return [file for file in _written(folder) if file.size != REMOVED]


def _written(folder: Path) -> list[SavedFile]:
    """The digests that `write_files` wrote; empty without its file."""
    with suppress(OSError, ValueError, TypeError):
        return [SavedFile(*row) for row in json.loads((folder / FILES).read_text())]
    return []


def compare_files(a: Sequence[SavedFile], b: Sequence[SavedFile]) -> FileComparison:
    """Compare the files that both runs saved; one that only one of them saved is not compared."""
    others = {file.path: file for file in b}
    identical, different, unread = [], [], []
    for file in a:
        other = others.get(file.path)
        if other is None:
            continue
        if not file.digest or not other.digest:
            unread.append(file.path)
        elif file.digest == other.digest or (file.parts and file.parts == other.parts):
            identical.append(file.path)
        else:
            different.append((file.path, _where(file.parts, other.parts)))
    return FileComparison(tuple(identical), tuple(different), tuple(unread))


def _where(a: Parts, b: Parts) -> str:
    """The parts that differ, in words; empty where a side was not split into parts."""
    names = [name for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)]
    return some(names) if a and b else ""


def _read(place: Path, path: str) -> SavedFile:
    digest = hashlib.sha256()
    with place.open("rb") as file:
        start = file.read(8)
        digest.update(start)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        size = file.tell()
        parts: Parts = {}
        with suppress(OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError):
            parts = _parts(file, path, start, size)
    return SavedFile(path, size, digest.hexdigest(), parts if len(parts) <= MOST_PARTS else {})


def _parts(file: IO[bytes], path: str, start: bytes, size: int) -> Parts:
    """The parts of a file by its format; none where it has no parts, or is damaged."""
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return _members(file)
    if path.endswith(".safetensors"):
        return _safetensors(file, size)
    if size <= LARGEST_TEXT:
        return _lines(file.read(), path)
    return {}


def _members(file: IO[bytes]) -> Parts:
    """The members of an archive without the name of its root, tensors of `torch.save` by name."""
    with zipfile.ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        pickles = [name for name in names if name.endswith("/data.pkl")]
        tensors = _tensor_names(archive, pickles[0]) if pickles else {}
        parts: Parts = {}
        for name in names:
            own = name.partition("/")[2] if pickles else name
            with archive.open(name) as member:
                size = archive.getinfo(name).file_size
                parts[tensors.get(own, own)] = _digest(_chunks(member, size))
        if pickles:  # it is a digest of the rest
            parts.pop(".data/serialization_id", None)
        return parts


def _tensor_names(archive: zipfile.ZipFile, pickle: str) -> dict[str, str]:
    """The key of each storage of an archive, such as `0.weight`, by its member.

    The state of an optimizer has the same keys for each parameter: the member is then named too.
    """
    if archive.getinfo(pickle).file_size > LARGEST_PICKLE:
        return {}
    names: dict[str, str] = {}
    for key, storage in _storages(archive.read(pickle)):
        names.setdefault(f"data/{storage}", key)
    uses = Counter(names.values())
    return {
        member: name if uses[name] == 1 else f"{name} ({member})"
        for member, name in names.items()
        if name
    }


def _storages(pickle: bytes) -> Iterator[tuple[str, str]]:
    """Each storage of a pickle by its number, and the last key before it.

    A storage is a tuple of `storage`, its type, its number, its device and its size.
    """
    memo: dict[int, str | None] = {}
    texts: list[str] = []  # the last ones
    last, key = None, ""
    for opcode, argument, _ in pickletools.genops(pickle):
        name = opcode.name
        if name.endswith("PUT") or name == "MEMOIZE":
            memo[len(memo) if argument is None else int(argument)] = last
            continue
        if name == "BINPERSID" and (number := _number_of_storage(texts)):
            yield key, number
        last = _text_of(name, argument, memo)
        if last == "storage" and texts:
            key = texts[-1]
        if last is not None:
            texts = [*texts[-7:], last]


def _text_of(opcode: str, argument: Any, memo: dict[int, str | None]) -> str | None:
    """The text that an opcode puts on the stack, if it is one."""
    if opcode.endswith("UNICODE") or opcode == "BINUNICODE8":
        return str(argument)
    if opcode.endswith("GET"):
        return memo.get(int(argument))
    return None


def _number_of_storage(texts: Sequence[Any]) -> str:
    """The number in the texts of a storage's tuple: `storage`, number, device."""
    if "storage" not in texts:
        return ""
    after = texts[len(texts) - texts[::-1].index("storage") :]
    return next((text for text in after if text.isdecimal()), "")


def _safetensors(file: IO[bytes], size: int) -> Parts:
    """The tensors of a safetensors file: its header gives the place of each."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, LARGEST_HEADER):
        raise ValueError
    header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None)
    parts = {} if metadata is None else {"metadata": _text_digest(json.dumps(metadata))}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        file.seek(8 + length + begin)
        kind = f"{tensor['dtype']} {tensor['shape']}".encode()
        parts[name] = _digest([kind], _chunks(file, end - begin))
    return parts


def _lines(data: bytes, path: str) -> Parts:
    """The lines of a text without times and paths, the values of a JSON object by key."""
    text = data.decode()  # raises UnicodeDecodeError, a ValueError, for binary data
    if "\0" in text:
        raise ValueError
    if path.endswith((".json", ".jsonl")):
        documents = text.splitlines() if path.endswith(".jsonl") else [text]
        values = [json.loads(document) for document in documents]
        return {name: _text_digest(value) for name, value in _values(values)}
    lines = enumerate(text.splitlines(), 1)
    return {f"line {number}": _text_digest(line) for number, line in lines}


def _values(values: list[Any]) -> Iterator[tuple[str, str]]:
    """Each value of a JSON text by its place; one with the name of a time or path is skipped."""
    several = len(values) > 1
    waiting = [(f"line {i}" if several else "", value) for i, value in enumerate(values, 1)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            pairs = [(f"{name}.{key}" if name else str(key), v) for key, v in value.items()]
            waiting += [pair for pair in pairs if not TIMED.search(pair[0].rpartition(".")[2])]
        elif isinstance(value, list):
            waiting += [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        else:
            yield name, json.dumps(value)


def _text_digest(text: str) -> str:
    return _digest([VARIABLE.sub("…", text).encode()])


def _digest(*streams: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chain(*streams):
        digest.update(chunk)
    return digest.hexdigest()[:16]


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The next bytes of a file, in pieces; raises `EOFError` where it has fewer."""
    while size > 0:
        chunk = file.read(min(size, CHUNK))
        if not chunk:
            raise EOFError
        size -= len(chunk)
        yield chunk
