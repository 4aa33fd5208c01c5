"""Copies the user's working folder for a run of the user's command."""

import contextlib
import fnmatch
import itertools
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from xorbench.errors import BadFile, BadOption, why
from xorbench.options.option_text import option_text
from xorbench.recorder.masking import encodable

MOST_FILES: Final = 100_000  # files of a working folder that are checked for changes
MOVED: Final = ".xorbench-removed-"  # prefix of folders that are being removed


@dataclass(slots=True)
class CopyPlan:
    """The content of a copy, by paths relative to the folder.

    Attributes:
        files: regular files and their sizes in bytes.
        folders: folders, parents first.
        links: symbolic links within the folder, and their targets, relative to the link.
        linked: paths that are links to the original in the copy, and the original's path.
        outward: symbolic links with targets outside the folder, and these targets.
        not_copied: excluded paths, and entries that cannot be copied, such as sockets.
    """

    source: Path
    files: dict[str, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    linked: dict[str, str] = field(default_factory=dict)
    outward: dict[str, str] = field(default_factory=dict)
    not_copied: list[str] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """The size of the copy in bytes."""
        return sum(self.files.values())


def planned(
    source: Path, exclude: tuple[str, ...], link: tuple[str, ...], own: Path, max_bytes: int
) -> CopyPlan:
    """Plan the copy of the folder, without `own`, the output folder of this program.

    Virtual environments are linked. Raises `BadOption` if the copy would be too large.
    """
    plan = CopyPlan(source.resolve())
    for path in link:
        if not (plan.source / path).exists():
            message = "{link}: there is no {path!r} in {source}"
            raise BadOption(option_text(message, path=path, source=source))
    to_link = {_relative(source, path) for path in link}
    for path in to_link:
        if path.startswith(os.pardir):
            plan.linked[path] = str((plan.source / path).resolve())
    size = 0
    for path, entry in _sorted(plan, exclude, to_link, own.resolve()):
        with contextlib.suppress(FileNotFoundError):  # removed in the meantime
            plan.files[path] = entry.stat(follow_symlinks=False).st_size
            size += plan.files[path]
        if size > max_bytes and len(plan.files) > 1_000_000:
            break
    if size > max_bytes:
        largest = ", ".join(_largest(plan))
        message = f"{source} holds {_size(plan.size_bytes)}, more than {_size(max_bytes)}"
        raise BadOption(
            option_text(
                "{max_copy}: {message}: most is in {largest}", message=message, largest=largest
            ),
            option_text(
                "exclude unneeded files with {exclude}, link data that is only read with {link},"
                " run in the folder itself with {in_place}, or raise the limit with {max_copy}"
            ),
        )
    return plan


def _relative(source: Path, path: str) -> str:
    """A path of `--link`, relative to the folder; it may begin with `..`."""
    for base in (source.absolute(), source.resolve()):
        relative = os.path.relpath(base / path, base)
        if relative.partition(os.sep)[0] not in (os.curdir, os.pardir):
            return relative
    if Path(path).is_absolute():
        message = option_text("{link}: {path!r} is not within {source}", path=path, source=source)
        raise BadOption(message, "an absolute path outside the folder needs no link")
    if source.resolve().is_relative_to((source / path).resolve()):
        message = option_text("{link}: {path!r} contains {source}", path=path, source=source)
        raise BadOption(message, "link a part of it, such as ../data")
    return os.path.relpath(source / path, source)


def height(plan: CopyPlan) -> int:
    """How many folders above the copy its links need, such as 1 for `../data`."""
    return max((Path(path).parts.count(os.pardir) for path in plan.linked), default=0)


def _sorted(
    plan: CopyPlan, exclude: tuple[str, ...], link: set[str], own: Path
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Sort the entries of the folder into the plan, and yield its regular files."""
    waiting = _entries("", plan.source)  # a stack, not recursion: folders may nest deeply
    while waiting:
        path, entry = waiting.pop()
        if _excluded(path, exclude) or Path(entry.path) == own:
            plan.not_copied.append(path)
        elif path in link or _is_environment(entry):
            plan.linked[path] = str(Path(entry.path).resolve())
        elif entry.is_symlink():
            _sort_link(plan, path, Path(entry.path))
        elif entry.is_dir():
            plan.folders.append(path)
            waiting += _entries(path, entry.path)
        elif entry.is_file():
            yield path, entry
        else:
            plan.not_copied.append(path)  # a socket, a pipe, a device


def _entries(path: str, folder: str | Path) -> list[tuple[str, os.DirEntry[str]]]:
    """The entries of a folder in reverse order, with paths relative to the working folder."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        raise BadFile(
            f"{folder}: cannot read: {why(error)}", option_text("exclude it with {exclude}")
        ) from None
    return [(os.path.join(path, entry.name), entry) for entry in entries]  # noqa: PTH118


def files_in(folder: Path, without: Path | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files in a folder, at any depth, by their relative paths.

    The folder `without` is skipped.
    """
    waiting = _entries("", folder)
    while waiting:
        path, entry = waiting.pop()
        with contextlib.suppress(OSError, BadFile):
            if entry.is_dir(follow_symlinks=False):
                waiting += _entries(path, entry.path) if Path(entry.path) != without else []
            elif entry.is_file(follow_symlinks=False):
                yield path, entry.stat(follow_symlinks=False)


def _excluded(path: str, patterns: tuple[str, ...]) -> bool:
    name = Path(path).name
    if name == "__pycache__":
        return True
    return any(
        fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern)
        for pattern in map(os.path.normpath, patterns)
    )


def _is_environment(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and (Path(entry.path) / "pyvenv.cfg").is_file()
    except OSError:  # a link to itself
        return False


def _sort_link(plan: CopyPlan, path: str, link: Path) -> None:
    try:
        target = link.resolve()
    except (OSError, RuntimeError):  # a link to itself
        plan.not_copied.append(path)
        return
    if target.is_relative_to(plan.source):
        plan.links[path] = os.path.relpath(target, link.parent.resolve())
    else:
        plan.linked[path] = plan.outward[path] = str(target)


def copy(plan: CopyPlan, target: Path) -> None:
    """Make the copy in a new folder; raises `BadFile` if it cannot be made."""
    try:
        target.mkdir(parents=True)
        for path in plan.folders:
            (target / path).mkdir()
        for path in plan.files:
            shutil.copy2(plan.source / path, target / path)
        for path, points_to in (plan.links | plan.linked).items():
            place = Path(os.path.normpath(target / path))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(points_to)
        for path in reversed(plan.folders):
            shutil.copystat(plan.source / path, target / path)
            (target / path).chmod((target / path).stat().st_mode | stat.S_IRWXU)
    except OSError as error:
        raise BadFile(
            f"{error.filename or target}: cannot copy: {why(error)}",
            option_text("exclude it with {exclude}, or set TMPDIR to a folder with free space"),
        ) from None


FileStates = dict[str, tuple[int, int]]  # size and modification time of each file, by path


def file_states(folder: Path, without: Path | None = None) -> FileStates:
    """Size (bytes) and modification time (ns) of each regular file, by its path in the folder.

    Compiled Python, the folder `without`, and files beyond `MOST_FILES` are skipped.
    """
    states: FileStates = {}
    for path, status in files_in(folder, without):
        if "__pycache__" not in path:
            states[encodable(path)] = (status.st_size, status.st_mtime_ns)
        if len(states) > MOST_FILES:
            break
    return states


def saved_between(before: FileStates, after: FileStates) -> list[str]:
    """The sorted paths of new and changed files."""
    return sorted(path for path, state in after.items() if before.get(path) != state)


def remove(folder: Path) -> None:
    """Remove a folder as far as possible, also if parts of it are write-protected.

    Folders in it are moved to its top first, so that no path of nested folders becomes too long.
    """
    if folder.is_symlink() or not folder.is_dir():
        with contextlib.suppress(OSError):
            folder.unlink()
        return
    waiting, count = [folder], itertools.count()
    emptied: list[Path] = []
    while waiting:
        inner = waiting.pop()
        emptied.append(inner)
        with contextlib.suppress(OSError):
            inner.chmod(stat.S_IRWXU)
            targets = (folder / f"{MOVED}{number}" for number in count)
            waiting += filter(None, map(_unlinked, list(os.scandir(inner)), targets))
    for inner in reversed(emptied):
        with contextlib.suppress(OSError):
            inner.rmdir()
    with contextlib.suppress(RecursionError):  # a folder that could not be moved
        shutil.rmtree(folder, ignore_errors=True)


def _unlinked(entry: os.DirEntry[str], target: Path) -> Path | None:
    """Remove an entry; a folder is moved to the target instead, which is returned."""
    with contextlib.suppress(OSError):
        if not entry.is_dir(follow_symlinks=False):
            Path(entry.path).unlink()
            return None
        Path(entry.path).chmod(stat.S_IRWXU)  # its entry .. changes
        Path(entry.path).rename(target)
        return target
    return None


def _largest(plan: CopyPlan) -> list[str]:
    sizes: Counter[str] = Counter()
    for path, size in plan.files.items():
        sizes[Path(path).parts[0]] += size
    return [f"{name} ({_size(size)})" for name, size in sizes.most_common(3)]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"
