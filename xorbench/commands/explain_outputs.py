"""What `explain` of a command writes and prints."""

from dataclasses import asdict

from xorbench.commands.check_outputs import Shown, publish, run_row
from xorbench.commands.ci_outputs import Exports
from xorbench.commands.explain_command import CureOutcome
from xorbench.judge.cure import CureSearch, pairs_needed, verdict
from xorbench.observe.sharing import sharing_here
from xorbench.report.check import CheckReport, for_programs
from xorbench.report.content import Section
from xorbench.report.text import frame_of


def write(
    outcome: CureOutcome, again: str, exports: Exports, *, as_json: bool, anonymous: bool = False
) -> Shown:
    """Write the report into the folder of the explanation, and what a CI asked for.

    `again` is the command that explains it once more.
    """
    search = outcome.search
    explained = CheckReport(
        id=outcome.id,
        command=outcome.command,
        folder=str(outcome.folder),
        runs=_rows(outcome),
        conclusion=outcome.conclusion,
        verdicts=[verdict(search, outcome.conclusion)],
        machine=outcome.machine,
        again=[again],
        sections=[_switches(search)] if search.switches else [],
    )
    sharing = sharing_here(anonymous=anonymous)
    return publish(explained, _result(outcome), exports, sharing, as_json=as_json)


def _switches(search: CureSearch) -> Section:
    rows = [
        {"switch": one.name, "what it sets": one.about, "result": search.result_of(one)}
        for one in search.switches
    ]
    return Section("switches", "Switches", frame_of(rows), terminal=True)


def _rows(outcome: CureOutcome) -> list[dict[str, object]]:
    return [
        {
            "run": one.ended.number,
            **({"side": one.side} if outcome.search.sides > 1 else {}),
            "for": "the cost" if one.is_timed else "the bits",
            "switches": ", ".join(one.switches),
            **run_row(one.ended),
        }
        for one in outcome.runs
    ]


def _result(outcome: CureOutcome) -> dict[str, object]:
    """Everything that was found, for programs."""
    found = outcome.search
    return {
        "explanation": outcome.id,
        "command": outcome.command,
        **for_programs(outcome.conclusion, outcome.exit_code),
        "cure": found.cure,
        "rest_gives": None if found.found is None else found.found.rest_gives,
        "share": found.share,
        "pairs": found.pairs,
        "pairs_needed": pairs_needed(found.share) if found.differ else None,
        "runs": found.runs,
        "switches": [asdict(one) for one in found.switches],
        "cost": None if found.cost is None else found.cost.for_programs(),
    }
