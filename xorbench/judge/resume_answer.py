"""What the kills and resumptions of a training come to, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xorbench.judge.check import Conclusion
from xorbench.judge.resume import Resumed
from xorbench.observe.records import Outcome

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
    " and torch.cuda.get_rng_state_all(), last of all before the first batch",
    "loss scale": "save and load GradScaler.state_dict()",
    "forward": "something else that the forward pass depends on was not restored",
    "number of steps": "count the steps from the checkpoint on, not anew",
    "anew": "look for an exception of the loading that is caught, and for the path that it tries",
}


@dataclass(frozen=True, slots=True)
class KillTrial:
    """One kill and what came after it.

    Attributes:
        kill_after: how many steps were complete.
        saved: files that were new or changed in the folder when it was killed.
        trouble: why there is nothing to compare, with what it comes to and a hint.
        resumed: what comparing came to.
        rounded: the half precision that the weights were rounded to, if they were.
    """

    kill_after: int
    saved: tuple[str, ...] = ()
    trouble: tuple[Outcome, str, str] | None = None
    resumed: Resumed | None = None
    rounded: str = ""


def conclude(trials: Sequence[KillTrial]) -> Conclusion:
    """The answer over all kills: the first that failed, else the first that is open."""
    answers = [_answer(trial) for trial in trials]
    facts = tuple(
        (f"killed after {trial.kill_after}", answer.sentence)
        for trial, answer in zip(trials, answers, strict=True)
    )
    for outcome in ("fail", "inconclusive"):
        for trial, answer in zip(trials, answers, strict=True):
            if answer.outcome == outcome:
                sentence = f"killed after {trial.kill_after} steps: {answer.sentence}"
                if outcome == "fail":
                    sentence = f"resumed is not the same as uninterrupted: {sentence}"
                return Conclusion(
                    answer.outcome, sentence, answer.component, answer.meaning, answer.hint, facts
                )
    kills = "1 kill" if len(trials) == 1 else f"{len(trials)} kills"
    sentence = f"resumed equals uninterrupted, to the bit, after {kills}: {answers[0].sentence}"
    if len(trials) > 1:
        sentence = f"resumed equals uninterrupted, to the bit, after each of {kills}"
    return Conclusion("pass", sentence, facts=facts)


def _answer(trial: KillTrial) -> Conclusion:
    if trial.trouble is not None:
        outcome, sentence, hint = trial.trouble
        return Conclusion(outcome, sentence, hint=hint)
    found = trial.resumed
    assert found is not None
    if found.anew:
        return _anew(trial)
    place = f"it went on at step {found.step}" if found.step is not None else "it went on"
    if not found.component:
        left = f"; not restored, and drawn from later: generator {', '.join(found.generators)}"
        steps = f"{found.compared} steps to the end are equal"
        return Conclusion("pass", f"{place}, {steps}{left if found.generators else ''}")
    said = found.said
    if trial.rounded:
        said = f"every weight is that of step {found.step} rounded to {trial.rounded}"
    later = f", equal for {found.compared} steps, then in step {found.at}" if found.compared else ""
    meaning = f"Not restored: {found.component}."
    by = f" (found by {found.by})" if found.by not in ("", "weights") else ""
    return Conclusion(
        "fail", f"{place}{by}{later}: {said}", found.component, meaning, HINTS[found.component]
    )


def _anew(trial: KillTrial) -> Conclusion:
    sentence = "the resume command started anew: it begins with the weights of step 0"
    if not trial.saved:
        said = f"{sentence}, as nothing had been saved by then"
        return Conclusion("inconclusive", said, hint="kill it after its first checkpoint")
    said = f"{sentence}, though there was {', '.join(trial.saved[:3])}"
    return Conclusion("fail", said, "anew", "Not restored: anything.", HINTS["anew"])
