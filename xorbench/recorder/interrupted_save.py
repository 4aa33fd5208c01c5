"""A process that dies within a save: after part of the bytes, between files, before a rename.

The files that are saved between two steps are one checkpoint. Files that are saved before the first
step are none. The death is in a checkpoint after the first, so that an older one exists. It leaves
half of a file, or no next file, or a file that is not renamed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

# where the process dies; `second` is a part of the second file of a checkpoint
PART, BETWEEN, SECOND, RENAME = "part", "between", "second", "rename"
PLACES = (PART, BETWEEN, SECOND, RENAME)
METADATA = ".metadata"  # the file of torch.distributed.checkpoint that is written last


class Checkpoint(NamedTuple):
    """The number of complete steps, and the files as they are named now."""

    step: int
    files: list[str]


class InterruptedSave:
    """Counts the checkpoints of a training and ends the process within one.

    Attributes:
        where: one of `PLACES`.
        step: gives the number of steps that are complete.
        die: ends the process; it is called with the path of the file that it dies at.
    """

    def __init__(self, where: str, step: Callable[[], int], die: Callable[[str], None]) -> None:
        self.where = where
        self._step = step
        self._die = die
        self._last = Checkpoint(0, [])
        self._older = self._last
        self._depth = 0

    def saving(self, path: str) -> None:
        """A file of a checkpoint is about to be saved."""
        step = self._step()
        if self._last.step != step:
            self._older, self._last = self._last, Checkpoint(step, [])
        elif self.where == BETWEEN and self._is_later and path not in self._last.files:
            self._die(path)

    def saved(self, path: str, cut: Callable[[str], None]) -> None:
        """It is saved; `cut` leaves a part of its bytes."""
        files = self._last.files
        if path not in files:
            files.append(path)
        if self._is_later and len(files) == {PART: 1, SECOND: 2}.get(self.where):
            cut(path)
            self._die(path)

    def renaming(self, source: str, target: str) -> None:
        """A file or folder is about to be renamed."""
        place, new = os.path.realpath(source), os.path.realpath(target)
        within = any(_is_in(file, place) for file in self._last.files)
        if self.where == RENAME and self._is_later and within and self._last.step == self._step():
            self._die(target)
        for checkpoint in (self._older, self._last):
            checkpoint.files[:] = [
                new + file[len(place) :] if _is_in(file, place) else file
                for file in checkpoint.files
            ]

    @property
    def state(self) -> dict[str, Any]:
        """The steps of both checkpoints, and whether the older one still has all its files."""
        older, last = self._older, self._last
        kept = all(os.path.exists(file) and file not in last.files for file in older.files)
        return {"step": last.step, "older_step": older.step, "older_is_complete": kept}

    @property
    def _is_later(self) -> bool:
        return self._older.step > 0

    def wrapped(
        self,
        save: Callable[..., Any],
        path_of: Callable[[dict[str, Any]], str | None],
        prepare: Callable[[str], Callable[[str], None]] = lambda _: halve,
    ) -> Callable[..., Any]:
        """A function that saves a file, followed from its beginning to its end.

        `path_of` gives the path from its arguments by name, None if it saves to no file. `prepare`
        is called before it with the path, and gives the function that cuts the file.
        """
        signature = inspect.signature(save)

        @functools.wraps(save)
        def saving(*args: Any, **kwargs: Any) -> Any:
            path = None
            with contextlib.suppress(Exception):  # the program's own mistake is its own error
                path = path_of(signature.bind(*args, **kwargs).arguments)
            if path is None or self._depth or not self._step():
                return save(*args, **kwargs)
            path = os.path.realpath(path)
            cut = prepare(path)
            self.saving(path)
            self._depth += 1
            try:
                answer = save(*args, **kwargs)
            finally:
                self._depth -= 1
            self.saved(path, cut)
            return answer

        return saving


def install(interrupted: InterruptedSave, after_import: Callable[..., None]) -> None:
    """Follow `torch.save`, safetensors, torch.distributed.checkpoint and renames."""
    import torch

    torch.save = interrupted.wrapped(torch.save, _path_of_torch)
    torch.serialization.save = torch.save

    def safetensors() -> None:
        module = sys.modules["safetensors.torch"]
        module.save_file = interrupted.wrapped(module.save_file, _path_of_safetensors)  # type: ignore[attr-defined]

    def distributed() -> None:
        module = sys.modules["torch.distributed.checkpoint"]
        save = interrupted.wrapped(module.save, _path_of_checkpoint, _keep_metadata)
        module.save = save  # type: ignore[attr-defined]
        module.state_dict_saver.save = save  # type: ignore[attr-defined]

    after_import("safetensors.torch", safetensors)
    after_import("torch.distributed.checkpoint", distributed)

    def renames(event: str, arguments: Any) -> None:
        if event == "os.rename":
            source, target = (os.fspath(path) for path in arguments[:2])
            interrupted.renaming(os.fsdecode(source), os.fsdecode(target))

    sys.addaudithook(renames)


def _is_in(file: str, place: str) -> bool:
    return file == place or file.startswith(place + os.sep)


def halve(path: str) -> None:
    """Leave the first half of a file; an open one may still hold bytes, which no death writes."""
    os.truncate(path, os.path.getsize(path) // 2)


def _path_of_torch(arguments: dict[str, Any]) -> str | None:
    """The path that `torch.save` saves to, also of an open file; None for memory."""
    file = arguments["f"]
    return _path(file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", None))


def _path_of_safetensors(arguments: dict[str, Any]) -> str | None:
    return _path(arguments["filename"])


def _path_of_checkpoint(arguments: dict[str, Any]) -> str | None:
    """The folder that torch.distributed.checkpoint saves to."""
    writer = getattr(arguments.get("storage_writer"), "path", None)
    return _path(arguments.get("checkpoint_id") or writer)


def _path(value: Any) -> str | None:
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else None


def _keep_metadata(folder: str) -> Callable[[str], None]:
    """Keep the metadata that a folder has, which are written last.

    A death before that leaves the new data with the metadata of the older checkpoint, if any.
    """
    path = os.path.join(folder, METADATA)
    before = None
    if os.path.exists(path):
        with open(path, "rb") as file:
            before = file.read()

    def cut(folder: str) -> None:
        files = [entry.path for entry in os.scandir(folder) if entry.name != METADATA]
        halve(max(files, key=os.path.getmtime))
        if before is None:
            os.unlink(path)
        else:
            with open(path, "wb") as file:
                file.write(before)

    return cut
