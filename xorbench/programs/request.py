"""The request to run a user's command."""

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xorbench.errors import BadOption
from xorbench.options.option_text import option_text
from xorbench.options.parse import FUNCTION
from xorbench.programs.command_run import CommandRun, called
from xorbench.programs.outside_paths import outside_paths
from xorbench.records.redaction import shown_command
from xorbench.runtime import working_folder
from xorbench.verdicts import counted


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command (`words`) or function (`target`), and the settings of its runs."""

    words: tuple[str, ...] = ()
    target: str | None = None
    processes: int = 2
    steps: int | None = None
    in_place: bool = False
    exclude: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    max_copy: int = 10**9
    max_record: int = 10**9
    timeout_s: float = 3600.0
    files: bool = False  # whether different saved files are a difference
    with_source: bool = False
    anonymous: bool = False
    root: Path = Path("results")
    name: str | None = None
    folder: Path | None = None  # the working folder; None for the current one

    @property
    def command(self) -> str:
        """The command as typed in a shell, without secrets."""
        return self.target or shown_command(self.words)

    def explain(self, command: str = "", against: str = "") -> str:
        """The `explain` of this or another command with the same runs, as typed in a shell."""
        options: list[tuple[str, object]] = [
            ("--steps", self.steps),
            *(("--exclude", glob) for glob in self.exclude),
            *(("--link", path) for path in self.link),
            ("--against", against or None),
        ]
        given = [f"{name} {shlex.quote(str(value))} " for name, value in options if value]
        in_place = "--in-place " if self.in_place else ""
        words = command or (self.target or f"-- {self.command}")
        return f"xorbench explain {in_place}{''.join(given)}{words}"

    def command_run(self) -> CommandRun:
        """The run of the command; raises `BadOption`."""
        folder = self.folder or here_or_refused()
        require_command("check", self.words, self.target, folder)
        copy = None
        if not self.in_place:
            copy = working_folder.planned(
                folder, self.exclude, self.link, self.root / "checks", self.max_copy
            )
            for path in outside_paths(folder, self.words, copy.files):
                copy.linked.setdefault(path, str((folder / path).resolve()))
        words = self.words if self.target is None else called(self.target)
        return CommandRun(words, folder, copy, self.timeout_s)

    def place_lines(self, run: CommandRun) -> list[str]:
        """The working folder of each run, and its files."""
        lines = [f"each run in {run.folder} itself"]
        if run.copy is not None:
            size = run.copy.size_bytes / 1e6
            files = counted(len(run.copy.files), "file")
            lines = [f"each run in a fresh copy of {run.folder}: {files}, {size:.3g} MB"]
            lines += [f"linked, not copied: {path} -> {to}" for path, to in run.copy.linked.items()]
            excluded = [path for path in run.copy.not_copied if "__pycache__" not in path]
            lines += [f"not copied: {path}" for path in excluded]
        if self.steps is not None:
            lines.append(f"each run ends after {counted(self.steps, 'step')}")
        return lines


def here_or_refused() -> Path:
    """The working folder; raises `BadOption` if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise BadOption("the working folder no longer exists") from None


def require_command(
    option: str, words: Sequence[str], target: str | None, folder: Path | None = None
) -> None:
    """Raise `BadOption` for a missing command or an invalid function name.

    A command with a slash is relative to `folder`, an absolute path, or to the current folder.
    """
    if target is None and not _exists(words[0], folder):
        raise BadOption(
            option_text("{name}: there is no command {word!r}", name=option, word=words[0])
        )
    if target is not None and not FUNCTION.fullmatch(target):
        raise BadOption(
            f"{option}: {target!r} is not a function name",
            f"{option} -- python train.py, or {option} package.module:function",
        )


def _exists(command: str, folder: Path | None) -> bool:
    path = str(folder / command) if folder is not None and os.sep in command else command
    return shutil.which(path) is not None
