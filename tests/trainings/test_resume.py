"""`check --resume`: where a resumed training goes on, what it lacks, and what bad input gets."""

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
    """A step as the recorder writes it; `changed` replaces digests, None leaves an event out."""
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
    """The record of a training that begins as step `first` of an uninterrupted one does."""
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


def judged(resumed: ResumeRecord, whole: ResumeRecord = WHOLE, kill_after: int = KILL) -> Resumed:
    """What comparing comes to, when the killed run equals the whole one until the kill."""
    return compare(whole, record(last=kill_after), resumed, kill_after)


def test_a_sound_resume_equals_to_the_end() -> None:
    """Nothing differs: the step, how many were compared, and that the ends were."""
    found = judged(record(SAVED))
    assert (found.step, found.by, found.component) == (SAVED, "weights", "")
    assert (found.compared, found.ended, found.generators) == (STEPS - SAVED, True, ())


# Where it goes on

TIED = {step: {"parameter/o0.g0.p0": "same", "parameter/o0.g0.p1": "same"} for step in range(6)}
ALIKE = {
    "parameter/o0.g0.p0": "same",
    "parameter/o0.g0.p1": "same",
    "state/o0.g0.p0.exp_avg": None,
    "state/o0.g0.p0.step": None,
    "buffer/m0.mean": "same",
}


def test_ties_are_broken_by_the_optimizers_state() -> None:
    """With a learning rate of 0 the weights of several steps are equal, and the state is not."""
    whole = record(changed=TIED)
    found = compare(whole, record(last=KILL, changed=TIED), record(3, changed=TIED), KILL)
    assert (found.step, found.component) == (3, "")


def test_ties_without_a_state_are_broken_by_hyperparameters() -> None:
    """A schedule tells the steps of a warm-up apart, though a batch was lost as well."""
    tied = {step: {**ALIKE, "batch/c0[0]": f"batch{step % 2}"} for step in range(6)}
    begins = {**tied, 3: {**tied[3], "batch/c0[0]": "batch0"}}
    found = compare(
        record(changed=tied), record(last=KILL, changed=tied), record(3, changed=begins), KILL
    )
    assert found.step == 3
    assert found.component == "data order"


def test_ties_with_equal_hyperparameters_are_broken_by_the_batch() -> None:
    """A constant rate tells nothing; the batch does."""
    tied, rates = dict.fromkeys(range(6), ALIKE), dict.fromkeys(range(STEPS), 0.0)
    whole = record(changed=tied, rates=rates)
    second, resumed = record(last=KILL, changed=tied), record(3, changed=tied, rates=rates)
    assert compare(whole, second, resumed, KILL).step == 3


def test_complete_ties_take_the_last_step_before_the_kill() -> None:
    """Where nothing tells the steps apart, no step after the kill is taken."""
    tied = {step: {**ALIKE, "batch/c0[0]": "same"} for step in range(STEPS)}
    rates = dict.fromkeys(range(STEPS), 0.0)
    resumed = record(3, changed=tied, rates=rates)
    found = compare(
        record(changed=tied, rates=rates), record(last=KILL, changed=tied), resumed, KILL
    )
    assert found.step == KILL


def test_other_weights_are_placed_by_the_optimizers_steps() -> None:
    """Weights that no step had are the finding; where it goes on, the optimizer's counters say."""
    other = {"parameter/o0.g0.p0": "other", "parameter/o0.g0.p1": "another"}
    found = judged(record(SAVED, changed={SAVED: other}))
    assert (found.step, found.by, found.component) == (
        SAVED,
        "the optimizer's step counters",
        "weights",
    )
    assert "all parameters match no step of the uninterrupted run" in found.text


def test_weights_of_which_some_are_those_of_a_step_are_placed_by_these() -> None:
    """Without an optimizer's state, the weights that were loaded tell the step."""
    lost = {"state/o0.g0.p0.exp_avg": None, "state/o0.g0.p0.step": None}
    whole = record(changed=dict.fromkeys(range(STEPS), lost))
    start = {**lost, "parameter/o0.g0.p1": "bias0", "batch/c0[0]": "other"}
    found = judged(record(SAVED, changed={SAVED: start}), whole)
    assert (found.step, found.by) == (SAVED, "most weights")
    assert found.text == "1 of 2 parameters (first: bias) come from step 0: not restored"


def test_other_weights_without_a_state_are_placed_by_the_batch() -> None:
    """The batch is the last that can tell the step; after it nothing can."""
    start: dict[str, Any] = {
        "state/o0.g0.p0.exp_avg": None,
        "state/o0.g0.p0.step": None,
        "parameter/o0.g0.p0": "other",
        "parameter/o0.g0.p1": "other",
    }
    found = judged(record(SAVED, changed={SAVED: start}))
    assert (found.step, found.by, found.component) == (SAVED, "the batch", "weights")
    start["batch/c0[0]"] = "other"
    nowhere = judged(record(SAVED, changed={SAVED: start}))
    assert (nowhere.step, nowhere.component) == (None, "weights")
    assert "match no step of the uninterrupted run" in nowhere.text


def test_first_weights_beside_a_restored_optimizer_were_not_loaded() -> None:
    """All else is that of step 4: it did not start anew, its weights were not restored."""
    start = {"parameter/o0.g0.p0": "weight0", "parameter/o0.g0.p1": "bias0"}
    found = judged(record(SAVED, changed={SAVED: start}))
    assert (found.step, found.from_scratch, found.component) == (SAVED, False, "weights")
    assert "all parameters come from step 0: not restored" in found.text


def test_weights_of_two_steps_are_a_checkpoint_that_mixes_them() -> None:
    """Written while training went on: the steps are neighbours."""
    found = judged(record(SAVED, changed={SAVED: {"parameter/o0.g0.p1": "bias5"}}))
    assert "come from step 5: the checkpoint mixes steps" in found.text


def test_weights_from_after_the_kill_are_a_file_of_the_uninterrupted_run() -> None:
    """The killed run never had them, so nothing is said of the resume."""
    answer = conclude([KillTrial(KILL, resumed=judged(record(7)))])
    assert answer.outcome == "inconclusive"
    assert "before step 7, after the kill: it loaded a file" in answer.sentence


def renamed(whole: ResumeRecord, names: Mapping[str, str]) -> ResumeRecord:
    """A record of the same program with other identities of optimizers and parameters."""

    def rename(text: str) -> str:
        return next((text.replace(old, new, 1) for old, new in names.items() if old in text), text)

    lines: list[TraceStep | TraceEnd] = []
    for one in whole.steps:
        said = [TraceEvent(e.kind, rename(e.identity), e.digest, e.more) for e in one.line.events]
        lines.append(
            TraceStep(
                step=one.step,
                at_s=0,
                took_s=0,
                recorder_s=0,
                events=said,
                names={rename(k): v for k, v in NAMES.items()} if one.step == 0 else {},
                hyperparameters={rename(k): v for k, v in one.hyperparameters.items()},
            )
        )
    end = whole.end
    assert end is not None
    final = [TraceEvent(e.kind, rename(e.identity), e.digest) for e in end.final]
    return read([*lines, TraceEnd(end=True, steps=end.steps, complete=True, final=final)])


def test_an_optimizer_that_was_made_twice_is_the_same_one() -> None:
    """The resumed program made one optimizer, and another; identities count both."""
    assert judged(renamed(record(SAVED), {"o0": "o1"})).component == ""


def test_parameters_in_another_order_are_known_by_their_names() -> None:
    """An order alone changes nothing."""
    swap = {"o0.g0.p0": "o0.g0.p1", "o0.g0.p1": "o0.g0.p0"}
    assert judged(renamed(record(SAVED), swap)).component == ""


def test_a_model_that_is_called_later_does_not_hide_the_step() -> None:
    """The resumed run has not called a second model when its first step begins."""
    more = {step: {"parameter/o1.g0.p0": f"critic{step}"} for step in range(STEPS)}
    resumed = record(SAVED, changed={step: more[step] for step in range(SAVED + 1, STEPS)})
    found = compare(record(changed=more), record(last=KILL, changed=more), resumed, KILL)
    assert (found.step, found.component) == (SAVED, "")


# What it lacks

LACKS = {
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


@pytest.mark.parametrize("name", LACKS)
def test_each_component_is_named(name: str) -> None:
    """What is changed where the resumed run begins is what is found, and what it looks like."""
    changed, component, said = LACKS[name]
    final = {"buffer m0.mean": "other"} if component == "buffers" else {}
    found = judged(record(SAVED, changed={SAVED: changed}, final=final))
    assert (found.step, found.component, found.differs_at) == (SAVED, component, SAVED)
    assert said in found.text


def test_a_model_in_evaluation_mode_is_known_by_its_weights() -> None:
    """It is recorded as another model, until the optimizer has stepped."""
    weights = {"parameter/o0.g0.p0": None, "parameter/o0.g0.p1": None}
    others = {"other/x0.weight": "weight4", "other/x0.bias": "bias4"}
    changed, component, _ = LACKS["evaluation mode"]
    found = judged(record(SAVED, changed={SAVED: {**changed, **weights, **others}}))
    assert (found.step, found.by, found.component) == (SAVED, "weights", component)


@pytest.mark.parametrize("name", [name for name in LACKS if name != "restarted"])
def test_what_shows_later_is_found_later(name: str) -> None:
    """The same, two steps after the resume."""
    changed, component, _ = LACKS[name]
    found = judged(record(SAVED, changed={SAVED + 2: changed}))
    assert (found.step, found.component, found.differs_at) == (SAVED, component, SAVED + 2)
    assert found.compared == 2


def test_a_learning_rate_is_compared_by_its_value() -> None:
    """The step that it is of is told; what only schedulers look at is not compared."""
    found = judged(record(SAVED, rates={SAVED: 0.1}))
    assert found.component == "hyperparameters"
    assert found.text.startswith("learning rate (lr) 0.1, expected 0.02, as in step 0")
    resumed = record(SAVED)
    for one in resumed.steps:
        for group in one.hyperparameters["o0"]:
            del group["initial_lr"]
    assert judged(resumed).component == ""


def test_a_loss_that_is_a_power_of_two_times_another_is_a_loss_scale() -> None:
    """The batch is the same, so only the scale can be another one."""
    resumed = record(SAVED, changed={SAVED: {"loss/l1": "overflow"}})
    line = resumed.steps[0].line
    losses = [i for i, event in enumerate(line.events) if event.kind == "loss"]
    line.events[losses[0]] = TraceEvent("loss", "l0", "scaled", More(value=64.0))
    found = judged(resumed)
    assert (found.component, "64 times" in found.text) == ("loss scale", True)


def test_a_step_that_begins_with_a_later_batch_was_saved_in_an_accumulation() -> None:
    """The batches of a step are told apart by call."""
    more = {step: {"call/c1": "", "batch/c1[0]": f"second{step}"} for step in range(STEPS)}
    begins = {"batch/c0[0]": "second4", "batch/c1[0]": "batch5", "gradient/o0.g0.p0": "other"}
    resumed = record(SAVED, changed={**more, SAVED: {**more[SAVED], **begins}})
    found = compare(record(changed=more), record(last=KILL, changed=more), resumed, KILL)
    assert found.component == "accumulation"
    assert "begins with the batch of call 1" in found.text


def test_another_model_is_known_by_the_names_of_its_parameters() -> None:
    """It has another number when it is called in another order; if it is equal, nothing is said."""
    whole = {step: {"other/x1.weight": f"mean{step}"} for step in range(STEPS)}
    same = {step: {"other/x0.weight": f"mean{step}"} for step in range(STEPS)}
    second = record(last=KILL, changed=whole)
    assert compare(record(changed=whole), second, record(SAVED, changed=same), KILL).component == ""
    fresh = {**same, SAVED + 1: {"other/x0.weight": "weight5"}}
    found = compare(record(changed=whole), second, record(SAVED, changed=fresh), KILL)
    assert (found.component, found.differs_at) == ("another model", SAVED + 1)
    assert "comes from the trained model" in found.text


def test_a_buffer_that_nothing_depends_on_is_told_and_passes() -> None:
    """It differs at first, and nothing else ever does, and it is equal in the end."""
    equal = {step: {"buffer/m0.mean": "constant"} for step in range(STEPS)}
    whole = record(changed=equal)
    start = {**equal, SAVED: {"buffer/m0.mean": "other"}}
    found = judged(record(SAVED, changed=start), whole)
    assert (found.component, found.unneeded) == ("", ("mean",))
    ended = judged(record(SAVED, changed=start, final={"buffer m0.mean": "other"}), whole)
    assert ended.component == "buffers"
    mattered = {**start, SAVED: {**start[SAVED], "loss/l0": "other"}}
    assert judged(record(SAVED, changed=mattered), whole).component == "buffers"


def test_a_model_that_is_called_before_it_is_loaded_is_known_by_its_gradients() -> None:
    """The step begins with that call, so its weights are not those that it trains with."""
    first = {"parameter/o0.g0.p0": "new", "parameter/o0.g0.p1": "new", "buffer/m0.mean": "new"}
    called = {**first, "call/c1": "", "batch/c1[0]": "all"}
    found = judged(record(SAVED, changed={SAVED: called}))
    assert (found.step, found.by, found.component) == (SAVED, "weights", "")
    lost = {**called, "state/o0.g0.p0.step": "other"}
    assert judged(record(SAVED, changed={SAVED: lost})).component == "optimizer state"


def test_gradients_that_were_saved_within_an_accumulation_are_sound() -> None:
    """The first step has fewer calls than the uninterrupted one, and the same gradients."""
    more = {
        step: {"call/c1": "", "batch/c1[0]": f"second{step}", "loss/l1": "x"} for step in range(8)
    }
    begins = {**more, SAVED: {"batch/c0[0]": f"second{SAVED}", "loss/l0": "x"}}
    second = record(last=KILL, changed=more)
    found = compare(record(changed=more), second, record(SAVED, changed=begins), KILL)
    assert (found.step, found.component) == (SAVED, "")


def test_an_unrestored_generator_that_changes_nothing_is_told_and_passes() -> None:
    """Its name is in the sentence; one that is never the same is not."""
    changed = {step: {"generator/torch cpu": f"other{step}"} for step in range(SAVED, STEPS)}
    answer = conclude([KillTrial(KILL, resumed=judged(record(SAVED, changed=changed)))])
    assert answer.outcome == "pass"
    assert "without effect: generator torch cpu" in answer.sentence
    unseeded = record(
        last=KILL, changed={step: {"generator/torch cpu": "?"} for step in range(KILL)}
    )
    found = compare(WHOLE, unseeded, record(SAVED, changed=changed), KILL)
    assert found.generators == ()


def test_the_ends_are_compared() -> None:
    """More steps, other weights at the end; and neither where --steps ended the runs."""
    assert judged(record(SAVED, last=STEPS + 2)).component == "number of steps"
    other = record(SAVED, final={"parameter o0.g0.p0": "other"})
    assert judged(other).component == "weights"
    found = judged(replace(other, end=None), replace(WHOLE, end=None))
    assert (found.component, found.ended) == ("", False)


def test_a_gradient_of_zeros_and_none_are_the_same() -> None:
    """`zero_grad(set_to_none=False)` leaves zeros where a resumed program has had none yet."""
    zero = {step: {"gradient/o0.g0.p1": zero_digest([2], "float32")} for step in range(STEPS)}
    resumed = record(SAVED, changed={step: zero[step] for step in range(SAVED + 1, STEPS)})
    assert judged(resumed, record(changed=zero)).component == ""


def test_every_component_has_a_hint() -> None:
    """What a look can name is a key of HINTS."""
    named = {component for _, component, _ in LACKS.values()}
    named |= {"weights", "hyperparameters", "loss scale", "another model", "number of steps"}
    assert named < set(HINTS)
    assert len(COMPARISONS) == 11


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "float64", "uint8"])
@pytest.mark.parametrize("shape", [[], [3], [2, 5], [40_000]])
def test_zero_has_the_digest_that_the_recorder_gives_it(dtype: str, shape: list[int]) -> None:
    """Computed without a tensor, it is that of one."""
    digester = Digester()
    parts = digester.start(torch.zeros(shape, dtype=getattr(torch, dtype)))
    assert digester.finish([parts]) == [zero_digest(shape, dtype)]


# Half precision


def floats(values: Any) -> tuple[str, bytes]:
    """Type and bytes of a float32 tensor."""
    return "float32", np.asarray(values, "<f4").tobytes()


def test_weights_in_half_precision_are_recognized() -> None:
    """By PyTorch's own rounding, with weights between that were saved as they are."""
    exact = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    scale = torch.full((3,), 0.1)
    for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16")):
        loaded = exact.to(dtype).float()
        expected = {"a": floats(exact.numpy()), "b": floats(scale.numpy())}
        found = {"a": floats(loaded.numpy()), "b": floats(scale.numpy())}
        assert rounded(expected, found) == name


def test_equal_and_other_weights_are_not_rounded_ones() -> None:
    """Nor are other shapes, other names, and types that are no floating point."""
    exact = {"a": floats([0.1, 0.2])}
    assert rounded(exact, exact) == ""
    assert rounded(exact, {"a": floats([0.1, 0.3])}) == ""
    assert rounded(exact, {"a": floats([0.1])}) == ""
    assert rounded(exact, {"b": floats([0.1, 0.2])}) == ""
    assert rounded({"a": ("int32", struct.pack("<2i", 1, 2))}, exact) == ""


# The answer over several kills


def test_a_kill_that_fails_decides_over_one_that_is_open() -> None:
    """Every kill is told in the details."""
    sound, anew = judged(record(SAVED)), judged(record(0))
    trials = [
        KillTrial(2, resumed=anew),
        KillTrial(4, resumed=sound),
        KillTrial(6, saved=("last.pt",), resumed=anew),
    ]
    answer = conclude(trials)
    assert (answer.outcome, answer.component) == ("fail", "from scratch")
    assert "killed after 6 steps: the resume command started from scratch" in answer.sentence
    assert len(answer.details) == 3
    assert conclude(trials[:2]).outcome == "inconclusive"
    assert conclude(trials[1:2]).outcome == "pass"


def test_each_kill_is_a_verdict_of_its_own() -> None:
    """A CI sees which of several kills failed."""
    trials = [
        KillTrial(4, resumed=judged(record(SAVED))),
        KillTrial(6, saved=("last.pt",), resumed=judged(record(0))),
    ]
    found = [(one.subject, one.outcome) for one in verdicts(trials)]
    assert found == [("killed after 4 steps", "pass"), ("killed after 6 steps", "fail")]


def test_a_message_of_a_cut_file_is_known() -> None:
    """What PyTorch, pickle and safetensors say of a file that ends early."""
    for said in (
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central",
        "EOFError: Ran out of input",
        "_pickle.UnpicklingError: pickle data was truncated",
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
    ):
        assert CUT_SHORT.search(said)
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
    """Check a training across a kill: the answer as JSON, and the exit code."""

    def run(
        kills: str, resume: str, path: str = "last.pt", program: Xorbench = inside
    ) -> tuple[Any, int]:
        (tmp_path / "train.py").write_text(SCRIPT)
        script = [sys.executable, "train.py", path]
        again = shlex.join([*script, *resume.split()])
        asked = ["--kill-after", kills, "--resume", again, "--", *script]
        done = program("check", "--json", *asked)
        if done.returncode == 2:
            return done.stderr, 2
        return json.loads(done.stdout), done.returncode

    return run


def test_a_real_kill_and_a_real_resume_are_equal_and_can_be_judged_again(
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
    said = inside("check", "--from", str(full))
    assert (said.returncode, "the resumed run: its record lacks 2 steps" in said.stdout) == (
        3,
        True,
    )
    shutil.rmtree(folder / "resumed-after-3")
    stopped = inside("check", "--from", str(folder))
    assert (stopped.returncode, "the check was stopped first" in stopped.stdout) == (3, True)


def test_a_resume_that_finds_no_checkpoint_and_fails_is_told(train: Any) -> None:
    """Exit code 1, its last line, and that nothing had been saved."""
    answer, code = train("1", "must")
    assert code == 1
    assert "the resume command failed: exit code 1: FileNotFoundError" in answer["sentence"]
    assert "nothing had been saved at the kill" in answer["hint"]


def test_a_resume_before_the_first_checkpoint_starts_anew(train: Any) -> None:
    """Exit code 3: that it starts anew is right."""
    answer, code = train("1", "if-any")
    assert code == 3
    assert "started from scratch" in answer["sentence"]
    assert "because nothing had been saved at the kill" in answer["sentence"]


def test_a_checkpoint_outside_the_copy_is_reported(train: Any, tmp_path: Path) -> None:
    """The uninterrupted run has left its last one there, so there is nothing left to do."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside.pt"
    answer, code = train("1", "must", str(outside))
    assert code == 3
    assert "made no step" in answer["sentence"]
    assert any(outside.name in note for note in answer["notes"])
    assert "within the working folder" in answer["hint"]


def test_a_kill_after_the_last_step_is_bad_input(train: Any, tmp_path: Path) -> None:
    """It is known once the first run has ended, and nothing is left behind."""
    said, code = train("6", "must")
    assert code == 2
    assert "--kill-after: 6: the command makes 6 steps" in said
    assert list(tmp_path.glob("results/checks/*")) == []


BAD = [
    # options, what the line must say
    (["--resume", "python again.py"], "--resume: needs --kill-after"),
    (["--kill-after", "3"], "--kill-after: needs --resume"),
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


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_input_is_one_line(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, the option and why; nothing is run or written."""
    monkeypatch.chdir(tmp_path)
    command = ["check", *options, "--", "true"]
    monkeypatch.setattr(sys, "argv", ["xorbench", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    first, *rest = capsys.readouterr().err.strip().splitlines()
    assert said in first
    assert len(rest) <= 1
    assert list(tmp_path.iterdir()) == []
