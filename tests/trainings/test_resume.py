"""`check --resume`: the step of the resume, lost state, and bad input."""

import json
import shlex
import shutil
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Xorbench

from xorbench.cli import main
from xorbench.programs.half_precision import rounded
from xorbench.programs.kills import Kill
from xorbench.programs.lost_state import COMPARISONS, Resumed, compare
from xorbench.programs.questions.resume import CUT_SHORT, HINTS, KillTrial, conclude, verdicts
from xorbench.programs.resumed_run import ResumeRecord, read, zero_digest
from xorbench.recorder.fingerprint import Digester
from xorbench.records.trace import More, TraceEnd, TraceEvent, TraceStep

STEPS, KILL, SAVED = 8, 6, 4
NAMES = {
    "o0.g0.p0": ("weight", [2], "float32"),
    "o0.g0.p1": ("bias", [2], "float32"),
    "m0.mean": ("mean", [2], "float32"),
}


def events(step: int, **changed: Any) -> list[TraceEvent]:
    """The events of a step; `changed` replaces digests, and None removes an event."""
    digests: dict[str, Any] = {
        "generator/torch cpu": f"torch{step}",
        "generator/python": "python",
        "parameter/o0.g0.p0": f"weight{step}",
        "parameter/o0.g0.p1": f"bias{step}",
        "buffer/m0.mean": f"mean{step}",
        "call/c0": "",
        "batch/c0[0]": f"batch{step}",
        "loss/l0": f"loss{step}",
        "hyperparameters/o0": "settings",
        "gradient/o0.g0.p0": f"gradient{step}",
        **({"state/o0.g0.p0.exp_avg": f"average{step}"} if step else {}),
        **({"state/o0.g0.p0.step": f"count{step}"} if step else {}),
    }
    digests.update(changed)
    return [
        TraceEvent(*key.split("/", 1), digest, More(value=1.0) if key == "loss/l0" else More())
        for key, digest in digests.items()
        if digest is not None
    ]


def record(
    first: int = 0,
    last: int = STEPS,
    changed: Mapping[int, Mapping[str, Any]] | None = None,
    rates: Mapping[int, float] | None = None,
    final: Mapping[str, str] | None = None,
) -> ResumeRecord:
    """The record of a training that begins at step `first` of an uninterrupted training."""
    lines: list[TraceStep | TraceEnd] = []
    for step in range(first, last):
        rate = (rates or {}).get(step, 0.1 / (1 + step))
        lines.append(
            TraceStep(
                step=step - first,
                at_s=0,
                took_s=0,
                recorder_s=0,
                events=events(step, **(changed or {}).get(step, {})),
                names=NAMES if step == first else {},
                hyperparameters={"o0": [{"lr": rate, "initial_lr": 0.1}]},
            )
        )
    ends = {"parameter o0.g0.p0": "end", "buffer m0.mean": "end", **(final or {})}
    closing = [TraceEvent(f"final {k.split()[0]}", k.split()[1], v) for k, v in ends.items()]
    lines.append(TraceEnd(end=True, steps=last - first, complete=True, final=closing))
    return read(lines)


WHOLE = record()


def compared(resumed: ResumeRecord, whole: ResumeRecord = WHOLE, kill_after: int = KILL) -> Resumed:
    """The comparison, with a killed run that is identical to the whole run until the kill."""
    return compare(whole, record(last=kill_after), resumed, kill_after)


def test_an_exact_resume_is_identical_to_the_end() -> None:
    """The result has the step, the number of compared steps, and both ends."""
    result = compared(record(SAVED))
    assert (result.step, result.by, result.component) == (SAVED, "weights", "")
    assert (result.compared, result.ended, result.generators) == (STEPS - SAVED, True, ())


# The step of the resume

TIED = {step: {"parameter/o0.g0.p0": "same", "parameter/o0.g0.p1": "same"} for step in range(6)}
ALIKE = {
    "parameter/o0.g0.p0": "same",
    "parameter/o0.g0.p1": "same",
    "state/o0.g0.p0.exp_avg": None,
    "state/o0.g0.p0.step": None,
    "buffer/m0.mean": "same",
}


def test_ties_are_broken_by_the_optimizers_state() -> None:
    """With a learning rate of 0 several steps have identical weights but different states."""
    whole = record(changed=TIED)
    result = compare(whole, record(last=KILL, changed=TIED), record(3, changed=TIED), KILL)
    assert (result.step, result.component) == (3, "")


def test_ties_without_a_state_are_broken_by_hyperparameters() -> None:
    """A schedule distinguishes the steps of a warm-up, although a batch was also lost."""
    tied = {step: {**ALIKE, "batch/c0[0]": f"batch{step % 2}"} for step in range(6)}
    begins = {**tied, 3: {**tied[3], "batch/c0[0]": "batch0"}}
    result = compare(
        record(changed=tied), record(last=KILL, changed=tied), record(3, changed=begins), KILL
    )
    assert result.step == 3
    assert result.component == "data order"


def test_ties_with_identical_hyperparameters_are_broken_by_the_batch() -> None:
    """With a constant learning rate only the batch identifies the step."""
    tied, rates = dict.fromkeys(range(6), ALIKE), dict.fromkeys(range(STEPS), 0.0)
    whole = record(changed=tied, rates=rates)
    second, resumed = record(last=KILL, changed=tied), record(3, changed=tied, rates=rates)
    assert compare(whole, second, resumed, KILL).step == 3


def test_complete_ties_take_the_last_step_before_the_kill() -> None:
    """If nothing distinguishes the steps, no step after the kill is selected."""
    tied = {step: {**ALIKE, "batch/c0[0]": "same"} for step in range(STEPS)}
    rates = dict.fromkeys(range(STEPS), 0.0)
    resumed = record(3, changed=tied, rates=rates)
    result = compare(
        record(changed=tied, rates=rates), record(last=KILL, changed=tied), resumed, KILL
    )
    assert result.step == KILL


def test_unknown_weights_are_located_by_the_optimizers_step_counters() -> None:
    """The weights match no step, but the optimizer's counters do."""
    changed = {"parameter/o0.g0.p0": "other", "parameter/o0.g0.p1": "another"}
    result = compared(record(SAVED, changed={SAVED: changed}))
    assert (result.step, result.by, result.component) == (
        SAVED,
        "the optimizer's step counters",
        "weights",
    )
    assert "all parameters match no step of the uninterrupted run" in result.text


def test_partly_loaded_weights_are_located_by_the_loaded_ones() -> None:
    """Without optimizer state, the loaded weights identify the step."""
    lost = {"state/o0.g0.p0.exp_avg": None, "state/o0.g0.p0.step": None}
    whole = record(changed=dict.fromkeys(range(STEPS), lost))
    start = {**lost, "parameter/o0.g0.p1": "bias0", "batch/c0[0]": "other"}
    result = compared(record(SAVED, changed={SAVED: start}), whole)
    assert (result.step, result.by) == (SAVED, "most weights")
    assert result.text == "1 of 2 parameters (first: bias) come from step 0: not restored"


def test_unknown_weights_without_a_state_are_located_by_the_batch() -> None:
    """The batch is the last resort to identify the step."""
    start: dict[str, Any] = {
        "state/o0.g0.p0.exp_avg": None,
        "state/o0.g0.p0.step": None,
        "parameter/o0.g0.p0": "other",
        "parameter/o0.g0.p1": "other",
    }
    result = compared(record(SAVED, changed={SAVED: start}))
    assert (result.step, result.by, result.component) == (SAVED, "the batch", "weights")
    start["batch/c0[0]"] = "other"
    nowhere = compared(record(SAVED, changed={SAVED: start}))
    assert (nowhere.step, nowhere.component) == (None, "weights")
    assert "match no step of the uninterrupted run" in nowhere.text


def test_initial_weights_with_a_restored_optimizer_were_not_loaded() -> None:
    """All other state is from step 4, so only the weights were not restored."""
    start = {"parameter/o0.g0.p0": "weight0", "parameter/o0.g0.p1": "bias0"}
    result = compared(record(SAVED, changed={SAVED: start}))
    assert (result.step, result.from_scratch, result.component) == (SAVED, False, "weights")
    assert "all parameters come from step 0: not restored" in result.text


def test_weights_of_two_steps_are_a_checkpoint_that_mixes_them() -> None:
    """A checkpoint that is written during training mixes neighbouring steps."""
    result = compared(record(SAVED, changed={SAVED: {"parameter/o0.g0.p1": "bias5"}}))
    assert "come from step 5: the checkpoint mixes steps" in result.text


def test_weights_from_after_the_kill_are_a_file_of_the_uninterrupted_run() -> None:
    """The killed run never had them, so the resume is not judged."""
    answer = conclude([KillTrial(Kill(KILL), resumed=compared(record(7)))])
    assert answer.outcome == "inconclusive"
    assert "before step 7, after the kill: it loaded a file" in answer.sentence


def renamed(whole: ResumeRecord, names: Mapping[str, str]) -> ResumeRecord:
    """A record of the same program with different identities of optimizers and parameters."""

    def rename(text: str) -> str:
        return next((text.replace(old, new, 1) for old, new in names.items() if old in text), text)

    lines: list[TraceStep | TraceEnd] = []
    for step in whole.steps:
        message = [
            TraceEvent(e.kind, rename(e.identity), e.digest, e.more) for e in step.line.events
        ]
        lines.append(
            TraceStep(
                step=step.step,
                at_s=0,
                took_s=0,
                recorder_s=0,
                events=message,
                names={rename(k): v for k, v in NAMES.items()} if step.step == 0 else {},
                hyperparameters={rename(k): v for k, v in step.hyperparameters.items()},
            )
        )
    end = whole.end
    assert end is not None
    final = [TraceEvent(e.kind, rename(e.identity), e.digest) for e in end.final]
    return read([*lines, TraceEnd(end=True, steps=end.steps, complete=True, final=final)])


def test_an_optimizer_that_was_created_twice_is_matched() -> None:
    """The identities of the resumed program count both optimizers."""
    assert compared(renamed(record(SAVED), {"o0": "o1"})).component == ""


def test_parameters_in_a_different_order_are_matched_by_their_names() -> None:
    """The order does not change the result."""
    swap = {"o0.g0.p0": "o0.g0.p1", "o0.g0.p1": "o0.g0.p0"}
    assert compared(renamed(record(SAVED), swap)).component == ""


def test_a_model_that_is_called_later_does_not_hide_the_step() -> None:
    """The resumed run has not called a second model when its first step begins."""
    more = {step: {"parameter/o1.g0.p0": f"critic{step}"} for step in range(STEPS)}
    resumed = record(SAVED, changed={step: more[step] for step in range(SAVED + 1, STEPS)})
    result = compare(record(changed=more), record(last=KILL, changed=more), resumed, KILL)
    assert (result.step, result.component) == (SAVED, "")


# Lost state

LOST = {
    "buffer": ({"buffer/m0.mean": zero_digest([2], "float32")}, "buffers", "mean is zero"),
    "old buffer": ({"buffer/m0.mean": "mean2"}, "buffers", "mean is from step 2"),
    "no buffer": ({"buffer/m0.mean": None}, "buffers", "mean is missing"),
    "no state": (
        {"state/o0.g0.p0.exp_avg": None, "state/o0.g0.p0.step": None},
        "optimizer state",
        "(exp_avg, step) is empty",
    ),
    "counters": (
        {"state/o0.g0.p0.step": zero_digest([], "float32")},
        "optimizer state",
        "optimizer state step of weight is zero",
    ),
    "other state": (
        {"state/o0.g0.p0.exp_avg": "other"},
        "optimizer state",
        "exp_avg of weight differs",
    ),
    "restarted": ({"batch/c0[0]": "batch0"}, "data order", "from step 0: the data order rest"),
    "skipped": ({"batch/c0[0]": "batch5"}, "data order", "from step 5: one batch was skipped"),
    "again": ({"batch/c0[0]": "batch3"}, "data order", "from step 3: one batch was repeated"),
    "unknown batch": ({"batch/c0[0]": "other"}, "data order", "torch.Generator"),
    "batch of a generator": (
        {"batch/c0[0]": "other", "generator/torch cpu": "torch0"},
        "generators",
        "torch cpu (as in step 0) was not restored",
    ),
    "both": (
        {"batch/c0[0]": "batch0", "generator/torch cpu": "torch0"},
        "data order",
        "and the generator torch cpu (as in step 0) was not restored",
    ),
    "loss": ({"loss/l0": "other"}, "forward", "the loss differs although"),
    "loss of a generator": (
        {"loss/l0": "other", "generator/torch cpu": "x"},
        "generators",
        "the loss differs: the generator torch cpu was not restored",
    ),
    "two passes": (
        {"loss/l1": "more", "gradient/o0.g0.p0": "other"},
        "accumulation",
        "has 2 backward passes and 1 call",
    ),
    "gradient": ({"gradient/o0.g0.p0": "other"}, "gradients", "the gradient of weight differs"),
    "frozen": ({"gradient/o0.g0.p0": None}, "gradients", "weight has no gradient"),
    "evaluation mode": (
        {"call/c0": None, "batch/c0[0]": None, "gradient/o0.g0.p0": "other"},
        "training mode",
        "called in evaluation mode",
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_each_component_is_named(name: str) -> None:
    """A change in the first resumed step gives the component and the text."""
    changed, component, message = LOST[name]
    final = {"buffer m0.mean": "other"} if component == "buffers" else {}
    result = compared(record(SAVED, changed={SAVED: changed}, final=final))
    assert (result.step, result.component, result.differs_at) == (SAVED, component, SAVED)
    assert message in result.text


def test_a_model_in_evaluation_mode_is_identified_by_its_weights() -> None:
    """It is recorded as an untrained model until the first optimizer step."""
    weights = {"parameter/o0.g0.p0": None, "parameter/o0.g0.p1": None}
    others = {"other/x0.weight": "weight4", "other/x0.bias": "bias4"}
    changed, component, _ = LOST["evaluation mode"]
    result = compared(record(SAVED, changed={SAVED: {**changed, **weights, **others}}))
    assert (result.step, result.by, result.component) == (SAVED, "weights", component)


@pytest.mark.parametrize("name", [name for name in LOST if name != "restarted"])
def test_a_later_difference_is_located_at_its_step(name: str) -> None:
    """The change is two steps after the resume."""
    changed, component, _ = LOST[name]
    result = compared(record(SAVED, changed={SAVED + 2: changed}))
    assert (result.step, result.component, result.differs_at) == (SAVED, component, SAVED + 2)
    assert result.compared == 2


def test_a_learning_rate_is_compared_by_its_value() -> None:
    """The text has the step of the value; entries of schedulers are not compared."""
    result = compared(record(SAVED, rates={SAVED: 0.1}))
    assert result.component == "hyperparameters"
    assert result.text.startswith("learning rate (lr) 0.1, expected 0.02, as in step 0")
    resumed = record(SAVED)
    for step in resumed.steps:
        for group in step.hyperparameters["o0"]:
            del group["initial_lr"]
    assert compared(resumed).component == ""


def test_a_loss_that_differs_by_a_power_of_two_is_a_loss_scale() -> None:
    """The batch is identical, so only the scale can differ."""
    resumed = record(SAVED, changed={SAVED: {"loss/l1": "overflow"}})
    line = resumed.steps[0].line
    losses = [i for i, event in enumerate(line.events) if event.kind == "loss"]
    line.events[losses[0]] = TraceEvent("loss", "l0", "scaled", More(value=64.0))
    result = compared(resumed)
    assert (result.component, "64 times" in result.text) == ("loss scale", True)


def test_a_step_that_begins_with_a_later_batch_was_saved_in_an_accumulation() -> None:
    """The batches of a step are distinguished by call."""
    more = {step: {"call/c1": "", "batch/c1[0]": f"second{step}"} for step in range(STEPS)}
    begins = {"batch/c0[0]": "second4", "batch/c1[0]": "batch5", "gradient/o0.g0.p0": "other"}
    resumed = record(SAVED, changed={**more, SAVED: {**more[SAVED], **begins}})
    result = compare(record(changed=more), record(last=KILL, changed=more), resumed, KILL)
    assert result.component == "accumulation"
    assert "begins with the batch of call 1" in result.text


def test_another_model_is_identified_by_the_names_of_its_parameters() -> None:
    """Its number depends on the order of calls; identical models are not reported."""
    whole = {step: {"other/x1.weight": f"mean{step}"} for step in range(STEPS)}
    same = {step: {"other/x0.weight": f"mean{step}"} for step in range(STEPS)}
    second = record(last=KILL, changed=whole)
    assert compare(record(changed=whole), second, record(SAVED, changed=same), KILL).component == ""
    fresh = {**same, SAVED + 1: {"other/x0.weight": "weight5"}}
    result = compare(record(changed=whole), second, record(SAVED, changed=fresh), KILL)
    assert (result.component, result.differs_at) == ("another model", SAVED + 1)
    assert "comes from the trained model" in result.text


def test_an_unused_buffer_is_reported_and_passes() -> None:
    """Only this buffer differs, and it is identical at the end."""
    equal = {step: {"buffer/m0.mean": "constant"} for step in range(STEPS)}
    whole = record(changed=equal)
    start = {**equal, SAVED: {"buffer/m0.mean": "other"}}
    result = compared(record(SAVED, changed=start), whole)
    assert (result.component, result.unneeded) == ("", ("mean",))
    ended = compared(record(SAVED, changed=start, final={"buffer m0.mean": "other"}), whole)
    assert ended.component == "buffers"
    mattered = {**start, SAVED: {**start[SAVED], "loss/l0": "other"}}
    assert compared(record(SAVED, changed=mattered), whole).component == "buffers"


def test_a_model_that_is_called_before_loading_is_identified_by_its_gradients() -> None:
    """The step begins with that call, so its first weights are not the loaded ones."""
    first = {"parameter/o0.g0.p0": "new", "parameter/o0.g0.p1": "new", "buffer/m0.mean": "new"}
    called = {**first, "call/c1": "", "batch/c1[0]": "all"}
    result = compared(record(SAVED, changed={SAVED: called}))
    assert (result.step, result.by, result.component) == (SAVED, "weights", "")
    lost = {**called, "state/o0.g0.p0.step": "other"}
    assert compared(record(SAVED, changed={SAVED: lost})).component == "optimizer state"


def test_gradients_that_were_saved_within_an_accumulation_are_exact() -> None:
    """The first step has fewer calls than the uninterrupted run, but identical gradients."""
    more = {
        step: {"call/c1": "", "batch/c1[0]": f"second{step}", "loss/l1": "x"} for step in range(8)
    }
    begins = {**more, SAVED: {"batch/c0[0]": f"second{SAVED}", "loss/l0": "x"}}
    second = record(last=KILL, changed=more)
    result = compare(record(changed=more), second, record(SAVED, changed=begins), KILL)
    assert (result.step, result.component) == (SAVED, "")


def test_an_unrestored_generator_without_effect_is_reported_and_passes() -> None:
    """The sentence has its name, but not that of an irreproducible generator."""
    changed = {step: {"generator/torch cpu": f"other{step}"} for step in range(SAVED, STEPS)}
    answer = conclude([KillTrial(Kill(KILL), resumed=compared(record(SAVED, changed=changed)))])
    assert answer.outcome == "pass"
    assert "without effect: generator torch cpu" in answer.sentence
    unseeded = record(
        last=KILL, changed={step: {"generator/torch cpu": "?"} for step in range(KILL)}
    )
    result = compare(WHOLE, unseeded, record(SAVED, changed=changed), KILL)
    assert result.generators == ()


def test_the_ends_are_compared() -> None:
    """More steps or different final weights fail, unless --steps ended the runs."""
    assert compared(record(SAVED, last=STEPS + 2)).component == "number of steps"
    changed = record(SAVED, final={"parameter o0.g0.p0": "other"})
    assert compared(changed).component == "weights"
    result = compared(replace(changed, end=None), replace(WHOLE, end=None))
    assert (result.component, result.ended) == ("", False)


def test_a_zero_gradient_and_a_missing_one_are_identical() -> None:
    """`zero_grad(set_to_none=False)` leaves zeros; a resumed program has no gradient yet."""
    zero = {step: {"gradient/o0.g0.p1": zero_digest([2], "float32")} for step in range(STEPS)}
    resumed = record(SAVED, changed={step: zero[step] for step in range(SAVED + 1, STEPS)})
    assert compared(resumed, record(changed=zero)).component == ""


def test_every_component_has_a_hint() -> None:
    """Every component is a key of HINTS."""
    named = {component for _, component, _ in LOST.values()}
    named |= {"weights", "hyperparameters", "loss scale", "another model", "number of steps"}
    assert named < set(HINTS)
    assert len(COMPARISONS) == 11


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "float64", "uint8"])
@pytest.mark.parametrize("shape", [[], [3], [2, 5], [40_000]])
def test_zero_has_the_digest_that_the_recorder_gives_it(dtype: str, shape: list[int]) -> None:
    """The digest is computed without a tensor."""
    digester = Digester()
    parts = digester.start(torch.zeros(shape, dtype=getattr(torch, dtype)))
    assert digester.finish([parts]) == [zero_digest(shape, dtype)]


# Half precision


def floats(values: Any) -> tuple[str, bytes]:
    """Type and bytes of a float32 tensor."""
    return "float32", np.asarray(values, "<f4").tobytes()


def test_weights_in_half_precision_are_recognized() -> None:
    """PyTorch rounds some weights; others are saved unchanged."""
    exact = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    scale = torch.full((3,), 0.1)
    for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16")):
        loaded = exact.to(dtype).float()
        expected = {"a": floats(exact.numpy()), "b": floats(scale.numpy())}
        result = {"a": floats(loaded.numpy()), "b": floats(scale.numpy())}
        assert rounded(expected, result) == name


def test_identical_and_different_weights_are_not_rounded_ones() -> None:
    """Nor are different shapes, names, or integer types."""
    exact = {"a": floats([0.1, 0.2])}
    assert rounded(exact, exact) == ""
    assert rounded(exact, {"a": floats([0.1, 0.3])}) == ""
    assert rounded(exact, {"a": floats([0.1])}) == ""
    assert rounded(exact, {"b": floats([0.1, 0.2])}) == ""
    assert rounded({"a": ("int32", struct.pack("<2i", 1, 2))}, exact) == ""


# The answer over several kills


def test_a_failed_kill_decides_over_an_inconclusive_one() -> None:
    """The details have every kill."""
    correct, restarted = compared(record(SAVED)), compared(record(0))
    trials = [
        KillTrial(Kill(2), resumed=restarted),
        KillTrial(Kill(4), resumed=correct),
        KillTrial(Kill(6), saved=("last.pt",), resumed=restarted),
    ]
    answer = conclude(trials)
    assert (answer.outcome, answer.component) == ("fail", "from scratch")
    assert "killed after 6 steps: the resume command started from scratch" in answer.sentence
    assert len(answer.details) == 3
    assert conclude(trials[:2]).outcome == "inconclusive"
    assert conclude(trials[1:2]).outcome == "pass"


def test_each_kill_is_a_separate_verdict() -> None:
    """The verdicts show the failed kill."""
    trials = [
        KillTrial(Kill(4), resumed=compared(record(SAVED))),
        KillTrial(Kill(6), saved=("last.pt",), resumed=compared(record(0))),
    ]
    result = [(step.subject, step.outcome) for step in verdicts(trials)]
    assert result == [("killed after 4 steps", "pass"), ("killed after 6 steps", "fail")]


def test_messages_of_truncated_files_are_recognized() -> None:
    """The messages of PyTorch, pickle and safetensors."""
    for message in (
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central",
        "EOFError: Ran out of input",
        "_pickle.UnpicklingError: pickle data was truncated",
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
    ):
        assert CUT_SHORT.search(message)
    assert not CUT_SHORT.search("FileNotFoundError: [Errno 2] No such file or directory: 'a.pt'")


# Real runs

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn

path = Path(sys.argv[1])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if sys.argv[2:] and (sys.argv[2] == "must" or path.exists()):
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"])
    start = state["step"]
for step in range(start, 6):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    if (step + 1) % 2 == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "generator": torch.get_rng_state(), "step": step + 1}, path)
"""


@pytest.fixture
def train(tmp_path: Path, inside: Xorbench) -> Any:
    """Check a training across a kill; returns the answer as JSON, and the exit code."""

    def run(
        kills: str, resume: str, path: str = "last.pt", program: Xorbench = inside
    ) -> tuple[Any, int]:
        (tmp_path / "train.py").write_text(SCRIPT)
        script = [sys.executable, "train.py", path]
        again = shlex.join([*script, *resume.split()])
        options = ["--kill-after", kills, "--resume", again, "--", *script]
        done = program("check", "--json", *options)
        if done.returncode == 2:
            return done.stderr, 2
        return json.loads(done.stdout), done.returncode

    return run


def test_a_real_resume_is_exact_and_can_be_judged_again(
    train: Any, tmp_path: Path, xorbench: Xorbench, inside: Xorbench
) -> None:
    """Killed after step 3, it resumes at 2; the records alone give the same answer."""
    answer, code = train("3", "must", program=xorbench)
    assert (code, answer["outcome"]) == (0, "pass")
    assert [verdict["outcome"] for verdict in answer["verdicts"]] == ["pass"]
    assert "resumed at step 2, all 4 remaining steps are identical" in answer["sentence"]
    assert list(tmp_path.glob("*.pt")) == []
    (folder,) = (tmp_path / "results" / "checks").iterdir()
    again = inside("check", "--from", str(folder), "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["sentence"] == answer["sentence"]
    full = tmp_path / "full"
    shutil.copytree(folder, full)
    record = next((full / "resumed-after-3" / "records").glob("*-*.jsonl"))
    lines = record.read_text().splitlines(keepends=True)
    end = json.loads(lines[-1]) | {"left_out": 2}
    record.write_text("".join([*lines[:-3], json.dumps(end) + "\n"]))
    message = inside("check", "--from", str(full))
    assert (message.returncode, "the resumed run: its record lacks 2 steps" in message.stdout) == (
        3,
        True,
    )
    shutil.rmtree(folder / "resumed-after-3")
    stopped = inside("check", "--from", str(folder))
    assert (stopped.returncode, "the check was stopped first" in stopped.stdout) == (3, True)


def test_a_resume_that_fails_without_a_checkpoint_is_reported(train: Any) -> None:
    """Exit code 1, with its last line and a hint."""
    answer, code = train("1", "must")
    assert code == 1
    assert "the resume command failed: exit code 1: FileNotFoundError" in answer["sentence"]
    assert "nothing had been saved at the kill" in answer["hint"]


def test_a_resume_before_the_first_checkpoint_starts_from_scratch(train: Any) -> None:
    """Exit code 3, because this is correct."""
    answer, code = train("1", "if-any")
    assert code == 3
    assert "started from scratch" in answer["sentence"]
    assert "because nothing had been saved at the kill" in answer["sentence"]


def test_a_checkpoint_outside_the_copy_is_reported(train: Any, tmp_path: Path) -> None:
    """The uninterrupted run left its last checkpoint there, so no steps remain."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside.pt"
    answer, code = train("1", "must", str(outside))
    assert code == 3
    assert "made no step" in answer["sentence"]
    assert any(outside.name in note for note in answer["notes"])
    assert "within the working folder" in answer["hint"]


def test_a_kill_after_the_last_step_is_bad_input(train: Any, tmp_path: Path) -> None:
    """The first run detects it, and no files remain."""
    message, code = train("6", "must")
    assert code == 2
    assert "--kill-after: 6: the command makes 6 steps" in message
    assert list(tmp_path.glob("results/checks/*")) == []


BAD = [
    # options, expected line
    (["--resume", "python again.py"], "--resume: needs --kill-after"),
    (["--kill-after", "3"], "--kill-after: needs --resume"),
    (["--kill-in-save"], "--kill-in-save: needs --resume"),
    (["--resume", "true"], "--resume: needs --kill-after or --kill-in-save"),
    (["--kill-after", "0", "--resume", "true"], "--kill-after: must be from 1"),
    (["--kill-after", "-1", "--resume", "true"], "--kill-after: must be from 1"),
    (["--kill-after", "many", "--resume", "true"], "--kill-after: must be a whole number"),
    (["--kill-after", "1.5", "--resume", "true"], "--kill-after: must be a whole number"),
    (["--kill-after", "3,3", "--resume", "true"], "--kill-after: 3 is given twice"),
    (["--kill-after", "", "--resume", "true"], "--kill-after: empty"),
    (["--kill-after", "3", "--resume", ""], "--resume: empty"),
    (["--kill-after", "3", "--resume", "python 'again"], "--resume: no closing quotation"),
    (["--kill-after", "3", "--resume", "no-such-command"], "there is no command 'no-such-command'"),
    (["--kill-after", "3", "--resume", "true", "--in-place"], "--in-place: cannot be given with"),
    (["--kill-after", "3", "--resume", "true", "--processes", "3"], "--processes: cannot be given"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, with the option and the reason; nothing is run or written."""
    monkeypatch.chdir(tmp_path)
    command = ["check", *options, "--", "true"]
    monkeypatch.setattr(sys, "argv", ["xorbench", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    first, *rest = capsys.readouterr().err.strip().splitlines()
    assert message in first
    assert len(rest) <= 1
    assert list(tmp_path.iterdir()) == []
