"""The answer of a comparison up to rounding, as a conclusion, in words, and in `result.json`."""

from typing import Final

from xorbench.programs.conclusion import Conclusion
from xorbench.programs.rounding import EPS, LIMIT, UNSTEADY, ZERO, RoundingAnswer, Row
from xorbench.verdicts import Outcome, counted, some

OUTCOMES: Final[dict[str, Outcome]] = {
    "same": "pass", "beyond": "fail", "cannot tell": "inconclusive",
}  # fmt: skip
# Hints.
OTHER_DRAWS: Final = "A and B draw random numbers of different shapes: turn dropout off in both"
ONLY_LOSS: Final = (
    "the updates of this step agree: the loss has a factor that is divided out again, or a constant"
)
EXCHANGE: Final = (
    "if this is intended, exchange A and B: the noise of the lower precision then counts"
)


def conclusion_of(answer: RoundingAnswer, exact: Conclusion) -> Conclusion:
    """The conclusion, in one of three sentences."""
    steps = f"{len(answer.judged)} of {counted(answer.total, 'step')} judged"
    worst, unjudged, first = answer.worst, _unjudged(answer), answer.first
    largest = f"the largest difference is {_noise_text(worst.times if worst else 0.0)}"
    details, hint = [("bits", exact.sentence)], ""
    if first is not None:
        finding = f"beyond rounding: first in step {first.step}, in {row_text(first)}"
        meaning = "The difference is larger than rounding explains."
        hint = EXCHANGE if first.text.startswith(tuple(EPS)) else ""
        hint = ONLY_LOSS if answer.only_loss else hint
        hint = OTHER_DRAWS if answer.other_draws and not first.text else hint
        details += [("steps before", f"{steps}; {largest}")] if answer.judged else []
    elif answer.word == "same":
        finding = f"same up to rounding: {steps}, {counted(answer.tensors, 'tensor')}; {largest}"
        if answer.unmatched:
            count = len(answer.unmatched)
            finding += f"; {count} of the parameters and buffers of A are not in B"
        meaning = "The difference is no larger than rounding explains."
    else:
        cause = next(iter(unjudged), "the runs have too few common steps")
        finding = f"cannot tell: {steps}; {cause}"
        meaning = f"In these steps {largest}." if answer.judged else ""
        hint = "give both commands the same model, and steps of the same batches"
        if any(row.text == UNSTEADY for row in answer.forks.values()):
            hint = "make A reproducible first"
    return Conclusion(
        OUTCOMES[answer.word],
        finding,
        "rounding" if first else "",
        meaning,
        hint,
        details=(*details, *(("not judged", text) for text in unjudged)),
        notes=exact.notes,
        step=first.step if first else None,
    )


def _noise_text(times: float) -> str:
    """A ratio with its limit."""
    return f"{times_text(times)} times the noise of rounding (limit {LIMIT:.0f})"


def times_text(ratio: float) -> str:
    """A ratio with two digits, or without decimals."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"


def _unjudged(answer: RoundingAnswer) -> list[str]:
    texts = [f"step {step}: {row_text(row)}" for step, row in answer.forks.items()]
    lines = [some(texts, 3, "; ")] if texts else []
    if answer.noisy:
        lines.append(f"too noisy: {some(sorted(answer.noisy))}")
    if answer.unmatched:
        lines.append(f"not in B: {some(answer.unmatched)}")
    return lines


def row_text(row: Row) -> str:
    """A tensor and its difference, in words."""
    name = row.name.partition("#")[0] if row.kind == "output" else row.name
    texts = {
        "initial": f"the initial value of {name}",
        "output": f"the output of {name or 'the model'}",
        "operator": f"the result of {name}",
        "loss": "the loss",
        "gradient": f"the gradient of {name}",
        "buffer": f"buffer {name}",
        "new state": f"the optimizer state {name}",
        "parameter": f"parameter {name}",
        "hyperparameters": f"the hyperparameters of {name}",
        "batch": f"the batch ({name})",
        "label": "the labels",
        "draw": f"a random draw ({name})",
        "steps": "the number of steps",
        "state": "the states of model and optimizers",
    }
    if row.kind == "decision":
        differs = f"decided differently in {counted(round(row.ratio), 'element')}"
        return f"{name} {row.text or differs}"
    zero = "is zero in A, but not in B" if row.ratio >= ZERO else ""
    return f"{texts[row.kind]}: {row.text or zero or _noise_text(row.times)}"


def for_programs(answer: RoundingAnswer) -> dict[str, object]:
    """The answer as an entry of `result.json`."""
    first, worst = answer.first, answer.worst
    return {
        "answer": answer.word,
        "limit": LIMIT,
        "steps": answer.total,
        "judged": answer.judged,
        "tensors": answer.tensors,
        "largest": worst.times if worst else None,
        "first": first and {"step": first.step, "kind": first.kind, "name": first.name},
        "by_step": answer.by_step,
    }
