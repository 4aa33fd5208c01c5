"""Verdicts as JUnit XML, which every CI reads: a suite per check, a test case per subject."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from xorbench.verdicts import Outcome, Verdict

# Characters that XML 1.0 does not allow, even escaped.
_FORBIDDEN: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The tags of outcomes; `inconclusive` is an error, since its exit code is not 0.
TAGS: Final[dict[Outcome, str]] = {
    "fail": "failure",
    "inconclusive": "error",
    "skipped": "skipped",
}


def junit(verdicts: Sequence[Verdict], name: str) -> str:
    """The document; `name` is the name of the run."""
    root = Element("testsuites", {"name": _legal(f"xorbench {name}"), **_counts(verdicts)})
    for check in dict.fromkeys(verdict.check for verdict in verdicts):
        check_verdicts = [verdict for verdict in verdicts if verdict.check == check]
        suite = SubElement(root, "testsuite", {"name": _legal(check), **_counts(check_verdicts)})
        for verdict in check_verdicts:
            _add_case(suite, verdict)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(suite: Element, verdict: Verdict) -> None:
    named = {"classname": f"xorbench.{_legal(verdict.check)}", "name": _legal(verdict.subject)}
    case = SubElement(suite, "testcase", named)
    if verdict.outcome in TAGS:
        element = SubElement(case, TAGS[verdict.outcome], {"message": _legal(verdict.actual)})
        hint = f"\nhint: {verdict.hint}" if verdict.hint else ""
        element.text = _legal(f"expected: {verdict.expected}\nactual: {verdict.actual}{hint}")


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    counts = Counter(verdict.outcome for verdict in verdicts)
    return {
        "tests": str(len(verdicts)),
        "failures": str(counts["fail"]),
        "errors": str(counts["inconclusive"]),
        "skipped": str(counts["skipped"]),
    }


def _legal(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
