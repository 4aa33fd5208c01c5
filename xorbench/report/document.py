"""A report as text: for Markdown, for a terminal, for programs."""

import json
from collections.abc import Sequence

import msgspec
import pandas as pd

from xorbench.judge.verdicts import summary
from xorbench.observe.records import Verdict
from xorbench.report.content import Content
from xorbench.report.text import escape, to_markdown, to_terminal


def markdown(content: Content) -> str:
    """`report.md`."""
    head = pd.DataFrame(content.heading, columns=["what", "value"])
    parts = ["# xorbench report", to_markdown(head), f"**{summary(content.verdicts)}**"]
    failed = failures(content.verdicts)
    if failed:
        parts += ["## What failed", "\n".join(f"- {escape(line)}" for line in failed)]
    for section in content.sections:
        if section.shown:
            about = [section.about] if section.about else []
            parts += [f"## {section.title}", *about, to_markdown(section.frame)]
    return "\n\n".join(parts) + "\n"


def brief(content: Content) -> str:
    """What a CI shows beside a build: answers, what failed, the main tables."""
    said = [f"- **{a.question} {a.word}.** {escape(a.sentence)}" for a in content.answers]
    parts = [f"## xorbench {content.id}", "\n".join(said), f"**{summary(content.verdicts)}**"]
    failed = failures(content.verdicts)
    parts += ["### What failed", "\n".join(f"- {escape(x)}" for x in failed)] if failed else []
    for section in content.sections:
        if section.terminal and section.shown:
            parts += [f"### {section.title}", to_markdown(section.frame)]
    return "\n\n".join(filter(None, parts)) + "\n"


def terminal(content: Content) -> str:
    """What a command prints: heading, the main tables, what failed, the verdict."""
    width = max(len(key) for key, _ in content.heading)
    parts = ["\n".join(f"{key:<{width}}  {value}" for key, value in content.heading)]
    for section in content.sections:
        if section.terminal and section.shown:
            parts += [f"{section.title}\n\n{to_terminal(section.frame)}"]
    failed = failures(content.verdicts)
    parts += ["\n".join(failed)] if failed else []
    said = [summary(content.verdicts)] if content.verdicts or not content.answers else []
    return "\n\n".join([*parts, *said])


def failures(verdicts: Sequence[Verdict]) -> list[str]:
    """One line a failed verdict: check, subject, expected, actual, hint."""
    return [
        f"FAIL {v.check}: {v.subject}: {v.actual} (expected {v.expected})"
        + (f"; hint: {v.hint}" if v.hint else "")
        for v in verdicts
        if v.outcome == "fail"
    ]


def as_json(content: Content, exit_code: int) -> str:
    """The report for programs: where it is, what it came to, its tables and verdicts."""
    frames = {s.name: s.frame if s.csv is None else s.csv for s in content.sections}
    report = {
        "schema_version": content.schema_version,
        "run": content.id,
        "exit_code": exit_code,
        "heading": dict(content.heading),
        "tables": {n: json.loads(f.to_json(orient="records")) for n, f in frames.items()},
        "verdicts": msgspec.to_builtins(content.verdicts),
    }
    return json.dumps(report, indent=2)


def preview_text(cases: Sequence[tuple[str, str]], processes: int, estimate_s: float) -> str:
    """What a dry run prints: every case with its note, and a guess of the time."""
    frame = pd.DataFrame(cases, columns=["case", "note"])
    size = f"{len(cases)} cases in each of {processes} processes"
    return f"{to_terminal(frame)}\n\n{size}, about {estimate_s:,.0f} s on a small machine"


def preview_json(cases: Sequence[tuple[str, str]], processes: int, estimate_s: float) -> str:
    """The same for programs."""
    listed = [{"case": case, "note": note} for case, note in cases]
    return json.dumps({"cases": listed, "processes": processes, "estimate_s": estimate_s}, indent=2)
