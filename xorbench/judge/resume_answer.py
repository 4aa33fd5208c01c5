"""What the kills and resumptions of a training come to, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from xorbench.judge.check import Conclusion
from xorbench.judge.resume import Resumed, told_generators
from xorbench.judge.verdicts import Verdict, counted, some

CHECK: Final = "exact resume"
HINTS: Final = {
    "weights": "save and load the whole state_dict, in the precision in which it is trained",
    "buffers": "save and load the whole state_dict of the model, with strict=True",
    "optimizer state": "save and load optimizer.state_dict(), after the model is on its device",
    "another model": "save and load its state_dict too",
    "hyperparameters": "save and load scheduler.state_dict(), and call scheduler.step() where the"
    " uninterrupted run does",
    "accumulation": "save after an optimizer's step, not between the backward passes of one",
    "data order": "skip the batches of the epoch that are done, seed the sampler by the epoch"
    " (set_epoch), or use a loader that has a state_dict",
    "generators": "save and load random.getstate(), numpy.random.get_state(), torch.get_rng_state()"
    " and torch.cuda.get_rng_state_all(); restore them last, before the first batch is drawn",
    "loss scale": "save and load GradScaler.state_dict()",
    "forward": "restore what else the forward pass depends on: an attribute that is no buffer, a"
    " coefficient that moves with the steps, a generator of its own",
    "gradients": "save after an optimizer's step and zero_grad(); restore what changes gradients"
    " after backward, such as clipping, hooks and requires_grad",
    "training mode": "call train() after the checkpoint is loaded, and after each evaluation",
    "number of steps": "count the steps from the checkpoint on, not anew",
    "anew": "look for an exception of the loading that is caught, and for the path that it tries",
}


@dataclass(frozen=True, slots=True)
class KillTrial:
    """One kill and what came after it.

    Attributes:
        kill_after: how many steps were complete.
        saved: files that were new or changed in the folder when it was killed.
        outside: whether the training writes outside its folder.
        trouble: why there is nothing to compare.
        resumed: the comparison with the uninterrupted training, if one was possible.
        rounded: the step and the half precision that the weights were rounded to, if they were.
    """

    kill_after: int
    saved: tuple[str, ...] = ()
    outside: bool = False
    trouble: Conclusion | None = None
    resumed: Resumed | None = None
    rounded: tuple[int, str] | None = None


def conclude(trials: Sequence[KillTrial]) -> Conclusion:
    """The answer over all kills: the first that failed, else the first that is open."""
    answers = [_answer(trial) for trial in trials]
    every = tuple(
        (f"killed after {trial.kill_after}", answer.sentence)
        for trial, answer in zip(trials, answers, strict=True)
    )
    facts = every if len(trials) > 1 else ()  # of one the sentence says it
    for outcome in ("fail", "inconclusive"):
        for trial, answer in zip(trials, answers, strict=True):
            if answer.outcome == outcome:
                sentence = f"killed after {counted(trial.kill_after, 'step')}: {answer.sentence}"
                if outcome == "fail":
                    sentence = f"resumed is not the same as uninterrupted: {sentence}"
                return replace(answer, sentence=sentence, facts=facts)
    sentence = f"resumed equals uninterrupted, to the bit, after 1 kill: {answers[0].sentence}"
    if len(trials) > 1:
        sentence = f"resumed equals uninterrupted, to the bit, after each of {len(trials)} kills"
    return Conclusion("pass", sentence, facts=facts)


def verdicts(trials: Sequence[KillTrial]) -> list[Verdict]:
    """The answer to each kill as a verdict."""
    found = []
    for trial in trials:
        answer = _answer(trial)
        found.append(
            Verdict(
                check=CHECK,
                subject=f"killed after {counted(trial.kill_after, 'step')}",
                outcome=answer.outcome,
                expected="resumed, the bits of the uninterrupted run",
                actual=answer.sentence,
                hint=answer.hint,
            )
        )
    return found


def _answer(trial: KillTrial) -> Conclusion:
    if trial.trouble is not None:
        return trial.trouble
    found = trial.resumed
    assert found is not None
    if found.beyond or found.anew:
        return _beyond(found) if found.beyond else _anew(trial, found)
    if trial.rounded is not None:
        step, half = trial.rounded
        said = f"it went on at step {step}: every weight is that of step {step} rounded to {half}"
        return _failed("weights", said)
    if found.step is None:
        return _failed(found.component, found.said)
    by = f" (found by {found.by})" if found.by != "weights" else ""
    place = f"it went on at step {found.step}{by}"
    if not found.component:
        return Conclusion("pass", f"{place}, {_equal(found)}")
    later = f", {_steps(found)} equal, then in step {found.at}" if found.compared else ""
    failed = _failed(found.component, f"{place}{later}: {found.said}")
    return replace(failed, step=found.step if found.at is None else found.at)


def _steps(found: Resumed) -> str:
    return f"{counted(found.compared, 'step')} {'is' if found.compared == 1 else 'are'}"


def _equal(found: Resumed) -> str:
    """What is equal, and what is not and need not be."""
    parts = [f"{_steps(found)} equal{' to the end' if found.ended else ''}"]
    if found.generators:
        told = told_generators(found.generators)
        parts.append(f"not restored, and drawn from later without effect: {told}")
    if found.unneeded:
        parts.append(f"not restored, without effect: buffer {some(list(found.unneeded))}")
    return "; ".join(parts)


def _failed(component: str, said: str) -> Conclusion:
    meaning = f"Not restored: {component}."
    if component == "number of steps":
        meaning = "Resumed, the training is longer or shorter."
    return Conclusion("fail", said, component, meaning, HINTS[component])


def _beyond(found: Resumed) -> Conclusion:
    return Conclusion(
        "inconclusive",
        f"{found.said}: it found a file that the uninterrupted run has left",
        hint="save within the working folder, by a relative path: each run has its own copy of it",
    )


def _anew(trial: KillTrial, found: Resumed) -> Conclusion:
    begins = "the weights" if found.by == "weights" else "the batch"
    new = "" if found.by == "weights" else ", new weights and an optimizer without state"
    sentence = f"the resume command started anew: it begins with {begins} of step 0{new}"
    if trial.saved:
        said = f"{sentence}, though there was {some(list(trial.saved), 3)}"
        return Conclusion("fail", said, "anew", "Nothing was restored.", HINTS["anew"])
    if trial.outside:
        said = f"{sentence}; the training writes outside its working folder"
        return Conclusion("inconclusive", said, hint="save within the working folder")
    said = f"{sentence}, as nothing had been saved by then"
    return Conclusion("inconclusive", said, hint="kill it after its first checkpoint")
