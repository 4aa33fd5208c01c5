"""The meaning of a finding's code, and how a finding is made of it."""

from dataclasses import dataclass

from xorbench.fleet.records import Bad, Finding, Missing, Node, Replica, Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A code: its check, how bad it is, what to do.

    `is_open`: something is wrong, but no rank is known to be at fault.
    """

    name: str
    check: str
    severity: Severity
    remedy: str
    is_open: bool = False

    def about(
        self,
        subject: Node | Missing | Bad | Replica | None,
        text: str,
        severity: Severity | None = None,
    ) -> Finding:
        """A finding about a device, about a rank that may have no record, or about the fleet."""
        return Finding(
            code=self.name,
            severity=severity or self.severity,
            node=subject.node if subject else "",
            rank=subject.rank if subject else None,
            device=subject.device if isinstance(subject, Node) else "",
            found=text,
            remedy=self.remedy,
        )
