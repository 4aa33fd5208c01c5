"""The rules of a fleet: pure functions from records to findings, for live and merged fleets.

A rule is a function from `FleetData` to findings. Its module also defines the codes of these
findings, with their severity and remedy: bits, devices, speed, presence, collective.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding, GoldenCheck, Severity, training_name
from xorbench.fleet.rules import bits, collective, devices, presence, speed
from xorbench.fleet.rules.code import Code
from xorbench.verdicts import Outcome, Verdict, inconclusive, passed

RULES: Final = (
    *(bits.golden, bits.peers, bits.environments, bits.reruns, bits.accuracy, bits.recorded_bits),
    *(devices.sensors, devices.temperatures),
    *(speed.slow, speed.slow_host, speed.slower_than_baseline),
    *(presence.presence, presence.completion, presence.records),
    *(collective.replicas, collective.collectives),
)
CODES: Final = {
    code.name: code
    for module in (bits, devices, speed, presence, collective)
    for code in vars(module).values()
    if isinstance(code, Code)
}
SEVERITIES: Final = get_args(Severity)


def judge(fleet_data: FleetData) -> list[Finding]:
    """The findings of all rules, most severe first, then by rank and node."""
    findings = [finding for rule in RULES for finding in rule(fleet_data)]
    return sorted(findings, key=_order)


def _order(finding: Finding) -> tuple[int, str, float, str]:
    rank = math.inf if finding.rank is None else finding.rank
    return SEVERITIES.index(finding.severity), finding.code, rank, finding.node


def cordon(findings: Iterable[Finding]) -> list[str]:
    """The nodes to isolate, each once, sorted."""
    return sorted({f.node for f in findings if f.severity == "isolate" and f.node})


def verdicts(fleet_data: FleetData, findings: Sequence[Finding]) -> list[Verdict]:
    """One verdict per finding, and a pass for each check without findings."""
    verdicts = [_verdict(finding) for finding in findings]
    if not fleet_data.nodes:
        return verdicts
    failed = {CODES[f.code].check for f in findings if f.severity != "note"}
    checked = [check for check in _checked(fleet_data) if check not in failed]
    whole = f"{len(fleet_data.nodes)} devices"
    verdicts += [passed(check, "fleet", "no rank differs", whole) for check in checked]
    references = {"atlas": fleet_data.atlas, "baseline": fleet_data.baseline}
    return verdicts + [
        inconclusive(
            check,
            "fleet",
            f"an entry in the {check}",
            f"the {check} has no entry for these devices",
            "add one with xorbench fleet atlas add RUN, or use a fleet.json of these devices",
        )
        for check, reference in references.items()
        if reference is not None and check not in {*failed, *checked}
    ]


def _verdict(finding: Finding) -> Verdict:
    code = CODES[finding.code]
    outcome: Outcome = "fail" if finding.severity != "note" else "skipped"
    return Verdict(
        check=code.check,
        subject=subject_of(finding),
        outcome="inconclusive" if code.is_inconclusive else outcome,
        expected="equal to its peers",
        actual=f"{finding.code}: {finding.evidence}",
        hint=finding.remedy,
    )


def subject_of(finding: Finding) -> str:
    """The node, rank and device of a finding, or the fleet."""
    rank = "" if finding.rank is None else f"rank {finding.rank}"
    return " ".join(filter(None, [finding.node, rank, finding.device])) or "fleet"


def _any_recorded(fleet_data: FleetData) -> bool:
    """Whether the atlas has a digest for any training of any rank."""
    pairs = zip(fleet_data.nodes, fleet_data.groups.keys, strict=True)
    recorded = fleet_data.atlas or {}
    return any(
        training_name(t) in recorded.get(key, {}) for node, key in pairs for t in node.trainings
    )


def _checked(fleet_data: FleetData) -> list[str]:
    """The checks that had data."""
    nodes, groups = fleet_data.nodes, fleet_data.groups
    has_data = {
        **{name: any(node.checked.get(name) for node in nodes) for name in get_args(GoldenCheck)},
        "peers": any(len(group) > 1 for group in groups.by_training.values()),
        "rerun": any(training.processes > 1 for node in nodes for training in node.trainings),
        "atlas": _any_recorded(fleet_data),
        "collective": bool(fleet_data.replicas),
        "speed": any(len(group) > 2 for group in groups.by_model.values()),
        "baseline": bool(fleet_data.before.by_model.keys() & groups.by_model),
        "presence": True,
        "completion": True,
        "record": True,
    }
    return [check for check, is_checked in has_data.items() if is_checked]
