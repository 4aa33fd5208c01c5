"""Who is odd: records in, findings out. Pure: the same for a live fleet and for folders merged.

A rule is a function from `FleetData` to findings. It stands beside the codes that it gives, which
say how bad each is and what to do: bits, devices, speed, presence, collective.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, get_args

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding, GoldenCheck, training_name
from xorbench.fleet.rules import bits, collective, devices, presence, speed
from xorbench.judge.verdicts import Outcome, Verdict, inconclusive, passed

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
    found += [passed(check, "fleet", "no rank differs", whole) for check in checked]
    asked = {"atlas": fleet_data.atlas is not None, "baseline": fleet_data.baseline is not None}
    return found + [
        inconclusive(
            check,
            "fleet",
            "something to compare with",
            f"nothing here is in the {check}",
            "atlas add RUN, or a fleet.json of these devices",
        )
        for check, wanted in asked.items()
        if wanted and check not in {*bad, *checked}
    ]


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


def _on_record(fleet_data: FleetData) -> Iterator[bool]:
    """Of each training of each rank whether the atlas has its digest."""
    for node, key in zip(fleet_data.nodes, fleet_data.groups.keys, strict=True):
        known = (fleet_data.atlas or {}).get(key, {})
        yield from (training_name(one) in known for one in node.trainings)


def _any_golden(fleet_data: FleetData, check: GoldenCheck) -> bool:
    return any(node.checked.get(check) for node in fleet_data.nodes)


def _checked(fleet_data: FleetData) -> list[str]:
    """The checks that had something to check."""
    having = {
        **{name: _any_golden(fleet_data, name) for name in get_args(GoldenCheck)},
        "peers": any(len(group) > 1 for group in fleet_data.groups.by_training.values()),
        "rerun": any(one.processes > 1 for node in fleet_data.nodes for one in node.trainings),
        "atlas": bool(fleet_data.atlas) and any(_on_record(fleet_data)),
        "collective": bool(fleet_data.replicas),
        "speed": any(len(group) > 2 for group in fleet_data.groups.by_model.values()),
        "baseline": bool(fleet_data.before.by_model.keys() & fleet_data.groups.by_model),
        "presence": True,
        "completion": True,
        "record": True,
    }
    return [check for check, there in having.items() if there]
