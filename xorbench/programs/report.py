"""The report of `check` and of `explain`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from xorbench.answers import IDENTICAL, Answer
from xorbench.programs.components import COMPONENTS
from xorbench.programs.conclusion import Conclusion
from xorbench.recorder.environment import labelled
from xorbench.records.redaction import Sharing
from xorbench.report.content import Content, Picture, Section
from xorbench.report.text import escape, frame_of, to_markdown
from xorbench.verdicts import Verdict, capitalized

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The commands, their runs, and the conclusion.

    `answers` has one answer per question; if it is empty, the conclusion is the only answer.
    `sections` are placed between the answer and the runs.
    """

    id: str
    command: str
    folder: str
    runs: Sequence[dict[str, object]]
    conclusion: Conclusion
    verdicts: Sequence[Verdict]
    answers: Sequence[Answer] = ()
    machine: dict[str, object] = field(default_factory=dict)
    again: Sequence[str] = ()
    sections: Sequence[Section] = ()
    anonymous: bool = False
    pictures: Sequence[Picture] = ()


def changed(checked: CheckReport, sharing: Sharing) -> CheckReport:
    """The report without secrets and absolute paths."""
    shared = sharing.value(replace(checked, sections=(), pictures=()))
    sections = [
        replace(section, frame=section.frame.map(sharing.value), csv=None)
        for section in checked.sections
    ]
    pictures = checked.pictures  # they have only numbers
    return replace(shared, sections=sections, pictures=pictures, anonymous=sharing.anonymous)


def content(checked: CheckReport) -> Content:
    """The content of the report."""
    heading = [("training", checked.command), ("folder", checked.folder)]
    if "torch_version" in checked.machine:
        details = labelled(checked.machine, "torch_version", "python_version")
        heading.append(
            ("software", ", ".join(f"{name} {value}" for name, value in details.items()))
        )
    return Content(
        id=checked.id,
        schema_version=SCHEMA_VERSION,
        anonymous=checked.anonymous,
        heading=heading,
        sections=[
            Section("answer", "Findings", frame_of(_findings(checked)), terminal=True),
            *checked.sections,
            Section("runs", "Runs", frame_of(list(checked.runs)), terminal=True),
        ],
        pictures=checked.pictures,
        verdicts=checked.verdicts,
        answers=_answers(checked),
        environment=[(key, str(value)) for key, value in checked.machine.items()],
        again=checked.again,
    )


def _answers(checked: CheckReport) -> list[Answer]:
    """One answer per question; its word, yes or no, replaces the lead of the sentence."""
    conclusion = checked.conclusion
    finding = capitalized(conclusion.finding)
    return [*checked.answers] or [Answer(IDENTICAL, conclusion.outcome, finding)]


def _findings(checked: CheckReport) -> list[dict[str, str]]:
    conclusion = checked.conclusion
    rows = [("meaning", conclusion.meaning), *_rows(conclusion), ("hint", conclusion.hint)]
    rows.append(("next", conclusion.next_command))
    return [{"item": name, "finding": text} for name, text in rows if text]


def _rows(conclusion: Conclusion) -> list[tuple[str, str]]:
    rows = [*conclusion.details, *(("note", note) for note in conclusion.notes)]
    if conclusion.component:
        known = COMPONENTS.get(conclusion.component)
        rows.insert(0, ("component", known.title if known else conclusion.component))
    return rows


def markdown(checked: CheckReport) -> str:
    """The text of `report.md`: the answer, then the evidence."""
    conclusion = checked.conclusion
    parts = [f"**{escape(_sentence(conclusion))}**", escape(conclusion.meaning)]
    parts += [f"Hint: {escape(conclusion.hint)}"] if conclusion.hint else []
    parts += [f"Next: `{conclusion.next_command}`"] if conclusion.next_command else []
    report = content(checked)
    parts.append(to_markdown(frame_of([{"item": k, "value": v} for k, v in report.heading])))
    for section in report.sections:
        parts += [f"## {section.title}", to_markdown(section.frame)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _sentence(conclusion: Conclusion) -> str:
    return f"{capitalized(conclusion.sentence)}."


def conclusion_text(conclusion: Conclusion) -> str:
    """The answer, then the evidence, as lines for a terminal."""
    lines = [_sentence(conclusion)]
    lines += [f"  {conclusion.meaning}"] if conclusion.meaning else []
    rows = _rows(conclusion)
    width = max((len(name) for name, _ in rows), default=0)
    lines += [f"  {name:<{width}}  {text}" for name, text in rows]
    lines += [f"  hint: {conclusion.hint}"] if conclusion.hint else []
    lines += [f"  next: {conclusion.next_command}"] if conclusion.next_command else []
    return "\n".join(lines)


def for_programs(conclusion: Conclusion, exit_code: int) -> dict[str, object]:
    """The conclusion as entries of `result.json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": exit_code,
        "outcome": conclusion.outcome,
        "sentence": conclusion.sentence,
        "component": conclusion.component or None,
        "meaning": conclusion.meaning,
        "hint": conclusion.hint,
        "next": conclusion.next_command or None,
        "details": dict(conclusion.details),
        "notes": conclusion.notes,
        "step": conclusion.step,
    }
