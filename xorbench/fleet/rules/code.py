"""Codes of findings."""

from dataclasses import dataclass

from xorbench.fleet.records import Bad, Finding, Missing, Node, Replica, Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A code: its check, severity and remedy.

    `is_inconclusive`: a fault exists, but no rank can be identified as faulty.
    """

    name: str
    check: str
    severity: Severity
    remedy: str
    is_inconclusive: bool = False

    def about(
        self,
        subject: Node | Missing | Bad | Replica | None,
        text: str,
        severity: Severity | None = None,
    ) -> Finding:
        """A finding about a device, a rank or the fleet."""
        return Finding(
            code=self.name,
            severity=severity or self.severity,
            node=subject.node if subject else "",
            rank=subject.rank if subject else None,
            device=subject.device if isinstance(subject, Node) else "",
            evidence=text,
            remedy=self.remedy,
        )
