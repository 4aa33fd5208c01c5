"""`check --operators`: is each operator of a training correct, by a float64 reference?"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import xorbench
from xorbench.answers import CORRECT, Answer
from xorbench.programs.command_run import CommandRun, training_python
from xorbench.programs.command_runs import notes_of, why_not_comparable
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.defects import known
from xorbench.programs.experiment import MAIN, Experiment, Judgement, run_rows
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
Kind = dict[str, Any]  # of call: a row of the recorder, with the number of its calls
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
            verdicts = [trouble.verdict(CHECK, "all", EXPECTED)]
            return Judgement(trouble, verdicts, run_rows([run]), {"kinds": []})
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


def read_kinds(run: Ended) -> list[Kind]:
    """The kinds of call of all processes, each once, with the number of its calls."""
    kinds: dict[tuple[object, ...], Kind] = {}
    for path in sorted(run.records.glob("operators-*.jsonl")):
        own, counts = list[Kind](), list[int]()
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # the process was killed while it wrote
                row = json.loads(line)
                own, counts = (own, row["calls"]) if "calls" in row else ([*own, row], counts)
        rest = [1] * (len(own) - len(counts))
        for kind, calls in zip(own, [*counts, *rest], strict=True):
            key = tuple(kind[k] for k in ("operator", "signature", "state", "text", "kind"))
            kinds.setdefault(key, {**kind, "calls": 0})["calls"] += calls
    return list(kinds.values())


def judgement(
    kinds: Sequence[Kind], steps: str, notes: Sequence[str], run: Ended, known_defects: str
) -> Judgement:
    """The answer from the kinds of call."""
    judged = [kind for kind in kinds if not _is_excluded(kind)]
    wrong, missing = _with_state(judged, "wrong"), _with_state(judged, "not judged")
    failing = [k for k in wrong if known_defects == "fail" or known(k) is None]
    calls = _calls(judged)
    share = 1 - _calls(missing) / calls if calls else 0.0
    outcome: Outcome = "fail" if failing else "pass" if share >= LEAST_JUDGED else "inconclusive"
    count = f"{len(judged):,} kinds of call, in {steps}"
    finding = f"{len(failing)} of {count}" if failing else f"{share:.0%} of the calls of {count}"
    lead = {"fail": "wrong: ", "pass": "correct: ", "inconclusive": "only judged: "}[outcome]
    conclusion = Conclusion(
        outcome, finding, lead=lead, details=tuple(_details(kinds, wrong, missing)),
        notes=tuple(notes),
        hint="see docs/defects.md, and report a defect that is not listed" if failing else "",
    )  # fmt: skip
    rows = run_rows([run])
    ordered = sorted(kinds, key=lambda kind: (kind["state"] != "wrong", -kind["ratio"]))
    table = [_shown(kind) for kind in ordered]
    return Judgement(
        conclusion, list(_verdicts(judged, failing, share)), rows,
        {"runs": rows, "kinds": table, "calls": calls, "judged": share},
        [Answer(CORRECT, outcome, capitalized(conclusion.finding))],
        [("operators", "Kinds of call, and their error in units of the bound", table)],
    )  # fmt: skip


def _is_excluded(kind: Kind) -> bool:
    """Whether a kind has no correct value in one process."""
    return kind["state"] == "not judged" and kind["text"] in EXCLUDED


def _with_state(kinds: Iterable[Kind], state: str) -> list[Kind]:
    return [kind for kind in kinds if kind["state"] == state]


def _calls(kinds: Iterable[Kind]) -> int:
    return sum(kind["calls"] for kind in kinds)


def name_of(kind: Kind) -> str:
    """The operator without the name of its default overload."""
    return str(kind["operator"]).removesuffix(".default")


def _names(kinds: Iterable[Kind]) -> str:
    return some(list(dict.fromkeys(map(name_of, kinds))), 6)


def _place(kind: Kind) -> str:
    return f"{kind['signature']}  {kind['where']}".rstrip()


def _text(kind: Kind) -> str:
    """The details, with the known defect of a wrong kind."""
    defect = known(kind) if kind["state"] == "wrong" else None
    return str(kind["text"]) + (f"; known: {defect.reference}" if defect else "")


def _details(
    kinds: Sequence[Kind], wrong: Sequence[Kind], missing: Sequence[Kind]
) -> list[tuple[str, str]]:
    rows = [(name_of(k), f"{_place(k)}  {_text(k)}") for k in wrong[:MOST_SHOWN]]
    if len(wrong) > MOST_SHOWN:
        rows.append(("further", f"{len(wrong) - MOST_SHOWN} more wrong kinds are in the report"))
    if missing:
        reasons = Counter(kind["text"] for kind in missing).most_common()
        text = some([f"{reason} {count}" for reason, count in reasons], 6)
        rows.append(("not judged", f"{counted(len(missing), 'kind')}: {text}: {_names(missing)}"))
    if counts := Counter(kind["text"] for kind in kinds if _is_excluded(kind)):
        excluded = [f"{counted(n, 'kind')} {EXCLUDED[text]}" for text, n in counts.items()]
        rows.append(("excluded", ", ".join(excluded)))
    if low := _with_state(kinds, "low precision"):
        rows.append(("low precision", f"{LOW}: {_names(low)}"))
    if unsteady := [kind for kind in kinds if not kind["identical"]]:
        rows.append(
            ("not reproducible", f"different bits in two more executions: {_names(unsteady)}")
        )
    return rows


def _shown(kind: Kind) -> dict[str, object]:
    """The row of the report."""
    return {
        "operator": name_of(kind), "arguments": kind["signature"], "line": kind["where"],
        "calls": kind["calls"], "result": kind["state"],
        "error / bound": "" if kind["state"] == "not judged" else f"{kind['ratio']:.3g}",
        "details": _text(kind),
    }  # fmt: skip


def _verdicts(judged: Sequence[Kind], failing: Sequence[Kind], share: float) -> Iterable[Verdict]:
    """One verdict per wrong kind, one per correct operator, and one for the share."""
    for kind in failing:
        yield failed(CHECK, f"{name_of(kind)} {_place(kind)}", EXPECTED, _text(kind))
    largest: dict[str, float] = {}
    for kind in _with_state(judged, "correct") + _with_state(judged, "low precision"):
        largest[name_of(kind)] = max(largest.get(name_of(kind), 0.0), kind["ratio"])
    for name in sorted(largest.keys() - set(map(name_of, failing))):
        text = f"error at most {largest[name]:.3g} times the bound"
        yield passed(CHECK, name, EXPECTED, text)
    if share < LEAST_JUDGED:
        text = f"{share:.1%} of the calls were judged"
        expected = f"at least {LEAST_JUDGED:.0%} judged"
        yield inconclusive(CHECK, "all calls", expected, text, "add references")
