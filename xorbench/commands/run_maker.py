"""Makes the runs of a user's command, each in its place, and tells how each has ended."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xorbench.errors import BadOption
from xorbench.judge.command_runs import told
from xorbench.measure.command_run import CommandRun, execute
from xorbench.observe.cleaning import clean
from xorbench.observe.ended import Ended
from xorbench.observe.redaction import Names

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunMaker:
    """Makes the runs of a check or an explanation.

    Attributes:
        name: the command of xorbench that asks for them.
        options: what the recorder is given in each of them.
        folder: where their records are written to, below a name for each.
        fresh: makes the folder anew that a run works in.
        note: is called with how each has ended.
        names: what is removed from the files of a run; None to keep names.
    """

    name: str
    options: Mapping[str, Any]
    folder: Path
    fresh: Callable[[], Path]
    note: Note
    names: Names | None = None

    def run(
        self,
        of: CommandRun,
        number: int,
        name: str,
        said: str,
        *,
        place: Path | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Ended:
        """One run, in a fresh folder or in `place`; raises `BadOption` for what is no function."""
        asked = {**self.options, **options}
        output, place = self.folder / name, place or self.fresh()
        try:
            one = execute(of, number, place, output, asked, variables=variables)
        finally:
            clean(output, of.words, {**os.environ, **variables}, self.names)
        require_called(self.name, of, one)
        self.note(f"{said}: {told(one)}")
        return one


def require_called(name: str, of: CommandRun, one: Ended) -> None:
    """A function that cannot be called is bad input, said by the interpreter that tried."""
    if one.refusal is not None:
        hint = f"{name} package.module:function"
        raise BadOption(f"{name}: {of.target}: {one.refusal}", hint)
