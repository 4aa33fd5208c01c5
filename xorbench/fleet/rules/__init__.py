"""Who is odd: records in, findings out. Pure: the same for a live fleet and for folders merged.

A rule is a function from `FleetData` to findings. It stands beside the codes that it gives, which
say how bad each is and what to do: bits, devices, speed, presence, collective.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding, GoldenCheck
from xorbench.fleet.rules import bits, collective, devices, presence, speed
from xorbench.judge.verdicts import Outcome, Verdict, passed

MODULES: Final = (bits, devices, speed, presence, collective)
RULES: Final = tuple(rule for module in MODULES for rule in module.RULES)
CODES: Final = {code.name: code for module in MODULES for code in module.CODES}


def judge(fleet_data: FleetData) -> list[Finding]:
    """Every rule's findings: the worst first, then by rank and node."""
    found = [finding for rule in RULES for finding in rule(fleet_data)]
    order = {severity: place for place, severity in enumerate(("isolate", "investigate", "note"))}
    return sorted(found, key=lambda f: (order[f.severity], f.code, _rank_order(f.rank), f.node))


def _rank_order(rank: int | None) -> float:
    return math.inf if rank is None else rank


def cordon(findings: Iterable[Finding]) -> list[str]:
    """The nodes to isolate, each once, sorted."""
    return sorted({f.node for f in findings if f.severity == "isolate" and f.node})


def verdicts(fleet_data: FleetData, findings: Sequence[Finding]) -> list[Verdict]:
    """Each finding as a verdict, and a pass for each check that found nothing."""
    bad = {CODES[f.code].check for f in findings if f.severity != "note"}
    found = [_verdict(finding) for finding in findings]
    if not fleet_data.nodes:
        return found
    checked = [check for check in _checked(fleet_data) if check not in bad]
    whole = f"{len(fleet_data.nodes)} devices"
    return [*found, *(passed(check, "fleet", "no rank differs", whole) for check in checked)]


def _verdict(finding: Finding) -> Verdict:
    code = CODES[finding.code]
    outcome: Outcome = "fail" if finding.severity != "note" else "skipped"
    return Verdict(
        check=code.check,
        subject=who(finding),
        outcome="inconclusive" if code.is_open else outcome,
        expected="as its peers",
        actual=f"{finding.code}: {finding.found}",
        hint=finding.remedy,
    )


def who(finding: Finding) -> str:
    """Who the finding is about, in a few words."""
    rank = "" if finding.rank is None else f"rank {finding.rank}"
    return " ".join(filter(None, [finding.node, rank, finding.device])) or "fleet"


def _any_golden(fleet_data: FleetData, check: GoldenCheck) -> bool:
    return any(node.checked.get(check) for node in fleet_data.nodes)


def _checked(fleet_data: FleetData) -> list[str]:
    """The checks that had something to check."""
    having = {
        **{name: _any_golden(fleet_data, name) for name in get_args(GoldenCheck)},
        "peers": any(len(group) > 1 for group in fleet_data.groups.by_training.values()),
        "rerun": any(one.processes > 1 for node in fleet_data.nodes for one in node.trainings),
        "atlas": bool(fleet_data.atlas),
        "collective": bool(fleet_data.replicas),
        "speed": any(len(group) > 2 for group in fleet_data.groups.by_model.values()),
        "baseline": fleet_data.baseline is not None,
        "presence": True,
        "completion": True,
        "record": True,
    }
    return [check for check, there in having.items() if there]
