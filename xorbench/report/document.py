"""A report as text: for Markdown, for a terminal, for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import pandas as pd

from xorbench.answers import WORDS
from xorbench.errors import EXIT_WORDS
from xorbench.report.content import Content, Section
from xorbench.report.text import (
    Part,
    Title,
    escape,
    markdown_text,
    terminal_text,
    to_json,
    to_terminal,
)
from xorbench.verdicts import Verdict, capitalized, summary
from xorbench.xor.matrix.estimate import Preview


def markdown(content: Content) -> str:
    """`report.md`."""
    head = pd.DataFrame(content.heading, columns=["what", "value"])
    return markdown_text([Title("xorbench report", 1), *_parts(content, 2, content.sections, head)])


def brief(content: Content) -> str:
    """The summary for a CI: answers, failures, the main tables."""
    main = [replace(section, about="") for section in content.sections if section.terminal]
    return markdown_text([Title(f"xorbench {content.id}"), *_parts(content, 3, main)])


def _parts(
    content: Content, level: int, sections: Sequence[Section], *head: pd.DataFrame
) -> Iterator[Part]:
    yield _answers(content)
    yield f"**{summary(content.verdicts)}**"
    yield from head
    if failed := failures(content.verdicts):
        yield Title("What failed", level)
        yield "\n".join(f"- {escape(line)}" for line in failed)
    for section in sections:
        if section.shown:
            yield Title(section.title, level)
            yield section.about
            yield section.frame


def _answers(content: Content) -> str:
    """The answers, and the devices that were not tested, as a list."""
    lines = [
        f"- **{a.question} {a.word}.** {escape(capitalized(a.sentence))}" for a in content.answers
    ]
    lines += [
        f"- **{escape(device.subject)}: not tested.** {device.counted}: {escape(device.reason)}"
        for device in content.not_tested
    ]
    return "\n".join(lines)


SCREEN: Final = 20  # longest table that a terminal shows if nothing failed


def terminal(content: Content, exit_code: int, *, verbose: bool = False) -> str:
    """The output of a command: heading, the main tables, failures, and last the answers.

    A table that is longer than a screen is only in the report, unless something failed.
    """
    width = max(len(key) for key, _ in content.heading)
    parts = ["\n".join(f"{key:<{width}}  {value}" for key, value in content.heading)]
    failed = failures(content.verdicts)
    whole = verbose or bool(failed)
    shown = [section for section in content.sections if section.terminal and section.shown]
    parts += [_printed(section, whole=whole) for section in shown]
    parts += ["\n".join(failed)] if failed else []
    return "\n\n".join([*filter(None, parts), "\n".join(conclusion(content, exit_code))])


def _printed(section: Section, *, whole: bool) -> str:
    if section.lines is not None:
        return "\n".join(section.lines)
    if len(section.frame) > SCREEN and not whole:
        return f"{section.title}: {len(section.frame)} rows, in report.md (--verbose prints them)"
    return f"{section.title}\n\n{to_terminal(section.frame)}"


def conclusion(content: Content, exit_code: int) -> list[str]:
    """The last lines: answers, devices that were not tested, verdict, next step."""
    lines = [f"{a.question} {a.word}. {capitalized(a.sentence)}" for a in content.answers]
    lines += [device.sentence for device in content.not_tested]
    lines += _verdict(content, exit_code)
    hints = (v.hint for v in content.verdicts if v.outcome in ("fail", "inconclusive") and v.hint)
    return [*lines, *[f"next: {hint}" for hint in islice(hints, 1)]]


def _verdict(content: Content, exit_code: int) -> list[str]:
    """The verdict in one line; empty for a report without checks."""
    if not content.verdicts:
        return [] if content.answers else [f"{NOTHING_JUDGED}: {summary(content.verdicts)}"]
    return [f"{EXIT_WORDS[exit_code]}: {summary(content.verdicts)}"]


NOTHING_JUDGED: Final = WORDS["skipped"].upper()


def failures(verdicts: Sequence[Verdict]) -> list[str]:
    """One line per failed verdict: check, subject, actual, expected, hint."""
    return [
        f"FAIL {v.check}: {v.subject}: {v.actual} (expected {v.expected})"
        + (f"; hint: {v.hint}" if v.hint else "")
        for v in verdicts
        if v.outcome == "fail"
    ]


def as_json(content: Content, exit_code: int) -> str:
    """The report as JSON: its id, exit code, tables and verdicts."""
    report = {
        "schema_version": content.schema_version,
        "run": content.id,
        "exit_code": exit_code,
        "heading": dict(content.heading),
        "tables": {s.name: _records(s.data) for s in content.sections},
        "not_tested": content.not_tested,
        "verdicts": content.verdicts,
    }
    return to_json(report)


def _records(frame: pd.DataFrame) -> object:
    return json.loads(frame.to_json(orient="records"))


def preview_text(preview: Preview) -> str:
    """The text of a dry run: cases and configs with notes, their number, the estimated time."""
    parts: list[Part] = [pd.DataFrame(preview.cases, columns=["case", "note"])]
    if len(preview.configs) > 1:
        parts.append(pd.DataFrame(preview.configs, columns=["config", "note"]))
    parts += [f"note: {preview.note}"] if preview.note else []
    size = f"{preview.trained} cases in each of {preview.processes} processes"
    more = preview.most_processes - preview.processes
    later = f"; --precision may add {more} processes" if more else ""
    phases = f", including {preview.phases_s:,.1f} s for phases" if preview.phases_s else ""
    last = [device.sentence for device in preview.not_tested]
    last.append(f"{size}, about {preview.estimate_s:,.0f} s on this machine{phases}{later}")
    return terminal_text([*parts, "\n".join(last)])


def preview_json(preview: Preview) -> str:
    """The dry run as JSON."""
    return to_json(
        {
            "cases": [{"case": case, "note": note} for case, note in preview.cases],
            "configs": [{"config": config, "note": note} for config, note in preview.configs],
            "cases_to_run": preview.trained,
            "not_tested": preview.not_tested,
            "processes": preview.processes,
            "most_processes": preview.most_processes,
            "estimate_s": preview.estimate_s,
            "phases_s": preview.phases_s,
            "note": preview.note,
        }
    )
