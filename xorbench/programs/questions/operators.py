"""`check --operators`: is each operator of a training correct, by a float64 reference?"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import xorbench
from xorbench.answers import CORRECT, Answer
from xorbench.programs.command_run import CommandRun, training_python
from xorbench.programs.command_runs import notes_of, why_not_comparable
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.defects import known
from xorbench.programs.experiment import MAIN, Experiment, Judgement, Row, run_rows
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.run_processes import port_warning
from xorbench.records.ended import Ended
from xorbench.verdicts import (
    Outcome,
    Verdict,
    capitalized,
    counted,
    failed,
    inconclusive,
    passed,
    some,
)

CHECK: Final = "operators"
EXPECTED: Final = "within the bound of its float64 reference"
MODELS: Final = Path(xorbench.__file__).parent / "recorder" / "operators" / "models.py"
MOST_MODELS: Final = 100  # steps, one per model and precision
LEAST_JUDGED: Final = 0.9  # of the calls
MOST_SHOWN: Final = 20  # wrong kinds in the answer
EXCLUDED: Final = {
    "uninitialized": "of uninitialized memory",
    "communication": "of communication between ranks",
}
LOW: Final = "sums kept in a low precision, as PyTorch expects (pytorch#180155)"


@dataclass(frozen=True, slots=True)
class OperatorsRequest:
    """The command, and the steps whose operators are judged.

    `known_defects` is `ok` if defects of PyTorch that are listed do not fail.
    """

    check: CheckRequest
    operators: tuple[int, ...]
    known_defects: str = "fail"
    asker: ClassVar[str] = "check"

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "OperatorsRequest":
        """The question of an earlier check."""
        return cls(check, tuple(saved["operators"]), saved["known_defects"])

    @property
    def title(self) -> str:
        """The command."""
        return self.check.command

    def commands(self) -> dict[str, CommandRun]:
        """The command; raises `BadOption`."""
        return {MAIN: self.check.command_run()}

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The single run."""
        return [
            f"runs once, and judges the operators of {self._steps}: {self.check.command}",
            *self.check.place_lines(commands[MAIN]),
            *filter(None, [port_warning(commands[MAIN].words)]),
        ]

    def saved(self) -> dict[str, Any]:
        """The steps, and whether known defects fail."""
        return {"operators": self.operators, "known_defects": self.known_defects}

    def answer(self, experiment: Experiment) -> Judgement:
        """Run the command once and collect the verdicts of its processes."""
        last = max(self.operators) + 1
        run = experiment.run("run-1", 1, "run", judge=self.operators, stop_after=last)
        trouble = why_not_comparable(self.check.words, [run])
        kinds = read_kinds(run)
        if trouble is not None and (trouble.outcome == "fail" or not kinds):
            return Judgement(
                trouble, [trouble.verdict(CHECK, "all", EXPECTED)], run_rows([run]), {"kinds": []}
            )
        return judgement(kinds, self._steps, notes_of([run]), run, self.known_defects)

    @property
    def _steps(self) -> str:
        numbers = [str(step) for step in self.operators]
        if len(numbers) == MOST_MODELS:
            return "every step"
        last = f" and {numbers[-1]}" if len(numbers) > 1 else numbers[-1]
        return f"step{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:-1])}{last}"


def of_models(device: str, root: Path, *, strict: bool) -> OperatorsRequest:
    """The question about the operators of the packaged models on a device."""
    words = (training_python(), str(MODELS), "--device", device)
    check = CheckRequest(words, in_place=True, root=root)
    return OperatorsRequest(check, tuple(range(MOST_MODELS)), "fail" if strict else "ok")


def read_kinds(run: Ended) -> list[Row]:
    """The kinds of call of all processes, each once, with the number of its calls."""
    kinds: dict[tuple[object, ...], Row] = {}
    for path in sorted(run.records.glob("operators-*.jsonl")):
        own: list[Row] = []
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the process was killed while it wrote
                break
            if "calls" not in row:
                own.append({**row, "calls": 1})
                continue
            for kind, count in zip(own, row["calls"], strict=False):
                kind["calls"] = count
        for kind in own:
            key = (kind["operator"], kind["signature"], kind["state"], kind["text"], kind["kind"])
            if key in kinds:
                kinds[key]["calls"] = int(str(kinds[key]["calls"])) + int(str(kind["calls"]))
            else:
                kinds[key] = kind
    return list(kinds.values())


def judgement(
    kinds: Sequence[Row], steps: str, notes: Sequence[str], run: Ended, known_defects: str
) -> Judgement:
    """The answer from the kinds of call."""
    judged = [kind for kind in kinds if not _is_excluded(kind)]
    wrong = [kind for kind in judged if kind["state"] == "wrong"]
    failing = [k for k in wrong if known_defects == "fail" or known(k) is None]
    calls, missing = _calls(judged), _calls([k for k in judged if k["state"] == "not judged"])
    share = 1 - missing / calls if calls else 0.0
    outcome: Outcome = "fail" if failing else "pass" if share >= LEAST_JUDGED else "inconclusive"
    count = f"{len(judged):,} kinds of call, in {steps}"
    finding = f"{len(failing)} of {count}" if failing else f"{share:.0%} of the calls of {count}"
    lead = {"fail": "wrong: ", "pass": "correct: ", "inconclusive": "only judged: "}[outcome]
    conclusion = Conclusion(
        outcome, finding, lead=lead, details=tuple(_details(kinds, wrong)), notes=tuple(notes),
        hint="see docs/defects.md, and report a defect that is not listed" if failing else "",
    )  # fmt: skip
    rows = run_rows([run])
    table = [_shown(kind) for kind in sorted(kinds, key=_order)]
    return Judgement(
        conclusion, list(_verdicts(judged, failing, share)), rows,
        {"runs": rows, "kinds": table, "calls": calls, "judged": share},
        [Answer(CORRECT, outcome, capitalized(conclusion.finding))],
        [("operators", "Kinds of call, and their error in units of the bound", table)],
    )  # fmt: skip


def _is_excluded(kind: Row) -> bool:
    """Whether a kind has no correct value in one process."""
    return kind["state"] == "not judged" and kind["text"] in EXCLUDED


def _calls(kinds: Sequence[Row]) -> int:
    return sum(int(str(kind["calls"])) for kind in kinds)


def _order(kind: Row) -> tuple[bool, float]:
    return kind["state"] != "wrong", -float(str(kind["ratio"]))


def name_of(kind: Row) -> str:
    """The operator without the name of its default overload."""
    return str(kind["operator"]).removesuffix(".default")


def _defect_text(kind: Row) -> str:
    defect = known(kind)
    return "" if defect is None else f"; known: {defect.reference}"


def _details(kinds: Sequence[Row], wrong: Sequence[Row]) -> list[tuple[str, str]]:
    rows = [(name_of(k), f"{_place(k)}  {k['text']}{_defect_text(k)}") for k in wrong[:MOST_SHOWN]]
    if len(wrong) > MOST_SHOWN:
        rows.append(("further", f"{len(wrong) - MOST_SHOWN} more wrong kinds are in the report"))
    low = [name_of(kind) for kind in kinds if kind["state"] == "low precision"]
    unsteady = [name_of(kind) for kind in kinds if not kind["identical"]]
    missing = [k for k in kinds if k["state"] == "not judged" and not _is_excluded(k)]
    if missing:
        reasons = Counter(str(k["text"]) for k in missing)
        text = some([f"{reason} {count}" for reason, count in reasons.most_common()], 6)
        names = some(list(dict.fromkeys(map(name_of, missing))), 6)
        rows.append(("not judged", f"{counted(len(missing), 'kind')}: {text}: {names}"))
    counts = Counter(str(kind["text"]) for kind in kinds if _is_excluded(kind))
    if excluded := [f"{counted(n, 'kind')} {EXCLUDED[text]}" for text, n in counts.items()]:
        rows.append(("excluded", ", ".join(excluded)))
    if low:
        rows.append(("low precision", f"{LOW}: {some(list(dict.fromkeys(low)), 6)}"))
    if unsteady:
        text = f"different bits in two more executions: {some(list(dict.fromkeys(unsteady)), 6)}"
        rows.append(("not reproducible", text))
    return rows


def _place(kind: Row) -> str:
    return f"{kind['signature']}  {kind['where']}".rstrip()


def _shown(kind: Row) -> Row:
    """The row of the report."""
    ratio = float(str(kind["ratio"]))
    return {
        "operator": name_of(kind),
        "arguments": kind["signature"],
        "line": kind["where"],
        "calls": kind["calls"],
        "result": kind["state"],
        "error / bound": "" if kind["state"] == "not judged" else f"{ratio:.3g}",
        "details": f"{kind['text']}{_defect_text(kind) if kind['state'] == 'wrong' else ''}",
    }


def _verdicts(judged: Sequence[Row], failing: Sequence[Row], share: float) -> list[Verdict]:
    """One verdict per wrong kind, one per correct operator, and one for the share."""
    verdicts = [
        failed(CHECK, f"{name_of(k)} {_place(k)}", EXPECTED, f"{k['text']}{_defect_text(k)}")
        for k in failing
    ]
    largest: dict[str, float] = {}
    for kind in judged:
        if kind["state"] in ("correct", "low precision"):
            name = name_of(kind)
            largest[name] = max(largest.get(name, 0.0), float(str(kind["ratio"])))
    wrong = {name_of(kind) for kind in failing}
    verdicts += [
        passed(CHECK, name, EXPECTED, f"error at most {ratio:.3g} times the bound")
        for name, ratio in largest.items()
        if name not in wrong
    ]
    text = f"{share:.1%} of the calls were judged"
    if share < LEAST_JUDGED:
        expected = f"at least {LEAST_JUDGED:.0%} judged"
        verdicts.append(inconclusive(CHECK, "all calls", expected, text, "add references"))
    return verdicts
