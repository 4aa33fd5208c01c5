"""The report of an explanation."""

from xorbench.commands import check_outputs
from xorbench.commands.check_outputs import Shown
from xorbench.commands.ci_outputs import Exports
from xorbench.commands.experiment import ExperimentOutcome


def write(
    outcome: ExperimentOutcome,
    again: str,
    exports: Exports,
    *,
    as_json: bool,
    anonymous: bool = False,
) -> Shown:
    """Write and print it; `again` is the command that explains it once more."""
    return check_outputs.write(outcome, exports, as_json=as_json, anonymous=anonymous, again=again)
