"""Makes the runs of a user's commands, each in its place, and reports how each has ended."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xorbench.errors import BadOption
from xorbench.programs.command_run import CommandRun, execute
from xorbench.programs.command_runs import describe_end
from xorbench.records.cleaning import clean
from xorbench.records.ended import Ended
from xorbench.records.redaction import Names

Note = Callable[[str], None]


@dataclass(slots=True)
class RunMaker:
    """Makes the runs of one question.

    Attributes:
        name: the command of xorbench that asks for them.
        options: the options of the recorder in each of them.
        folder: the folder of their records, which gets a folder for each.
        fresh: creates the folder from scratch that a run works in.
        note: is called with how each has ended.
        names: the names that are removed from the files of a run; None to keep names.
        place: the folder that the last run worked in.
    """

    name: str
    options: Mapping[str, Any]
    folder: Path
    fresh: Callable[[], Path]
    note: Note
    names: Names | None = None
    place: Path | None = field(default=None, init=False)

    def run(
        self,
        command_run: CommandRun,
        number: int,
        name: str,
        label: str,
        *,
        same_place: bool = False,
        through: bool = False,
        variables: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Ended:
        """One run, in a fresh folder or in that of the run before; raises `BadOption`."""
        output = self.folder / name
        place = self.place if same_place and self.place is not None else self.fresh()
        self.place = place
        options = {**self.options, **options}
        try:
            run = execute(
                command_run, number, place, output, options, through=through, variables=variables
            )
        finally:
            clean(output, command_run.words, {**os.environ, **variables}, self.names)
        if run.refusal is not None:  # the interpreter that tried to call the function reports it
            hint = f"{self.name} package.module:function"
            raise BadOption(f"{self.name}: {command_run.target}: {run.refusal}", hint)
        self.note(f"{label}: {describe_end(run)}")
        return run
