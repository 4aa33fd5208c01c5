"""Make the runs of a user's commands and report how each ended."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xorbench.errors import BadOption
from xorbench.programs.command_run import CommandRun, Fresh, execute
from xorbench.programs.command_runs import describe_end
from xorbench.records.cleaning import clean
from xorbench.records.ended import Ended
from xorbench.records.redaction import Names

Note = Callable[[str], None]


@dataclass(slots=True)
class RunMaker:
    """Makes the runs of one question.

    Attributes:
        name: the xorbench command that makes the runs.
        options: the options of the recorder in every run.
        folder: the folder of the records, with one folder per run.
        fresh: creates the working folder of a run from scratch, `working_copy`.
        note: called with a line when a run has ended.
        names: the names to remove from the files of a run; None to keep names.
        place: the working folder of the last run.
    """

    name: str
    options: Mapping[str, Any]
    folder: Path
    fresh: Fresh
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
        """Make one run in a fresh folder, or in the folder of the last run; raises `BadOption`."""
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
        self.require_called(command_run, run)
        self.note(f"{label}: {describe_end(run)}")
        return run

    def require_called(self, command_run: CommandRun, run: Ended) -> None:
        """Raise `BadOption` if the function of a run could not be called."""
        if run.refusal is not None:  # the interpreter that tried to call the function reports it
            hint = f"{self.name} package.module:function"
            raise BadOption(f"{self.name}: {command_run.target}: {run.refusal}", hint)
