"""The components of a training, and the meaning of a first difference in each of them."""

from dataclasses import dataclass
from typing import Final

from xorbench.programs.first_difference import FirstDifference

DETERMINISTIC: Final = (
    "torch.use_deterministic_algorithms(True) selects deterministic operators, or raises an error"
    " if PyTorch has none"
)


@dataclass(frozen=True, slots=True)
class Component:
    """A component that can be the first to differ: its title, the meaning, and a hint."""

    title: str
    meaning: str
    hint: str


COMPONENTS: Final[dict[str, Component]] = {
    "parameters": Component(
        "the initial parameters",
        "The model is initialized before the seed is set, or with no seed or a different one.",
        "set the seed before the model is created",
    ),
    "resumed": Component(
        "the checkpoint that it resumed from",
        "The run starts with weights of a later step of run 1: it loaded a file of run 1.",
        "save within the working folder: each run gets its own copy of it",
    ),
    "batch": Component(
        "the batch",
        "The data order or the augmentation is not seeded.",
        "",
    ),
    "input": Component(
        "the output of an earlier call",
        "An earlier call of a model or an augmentation returned a different result.",
        "",
    ),
    "data": Component(
        "the data",
        "A tensor that is not a module input differs, such as labels or loss weights.",
        "",
    ),
    "buffers": Component(
        "a buffer",
        "The forward pass of the previous step computed different statistics.",
        DETERMINISTIC,
    ),
    "forward": Component(
        "the forward pass",
        "An operator returned different bits for identical inputs: it is nondeterministic, or uses"
        " random numbers (dropout).",
        DETERMINISTIC,
    ),
    "gradients": Component(
        "the backward pass",
        "A backward operator returned different bits for identical inputs: it is nondeterministic.",
        DETERMINISTIC,
    ),
    "optimizer": Component(
        "the optimizer",
        "Identical gradients led to different parameters or a different optimizer state.",
        "look for random numbers, and for hyperparameters that differ",
    ),
    "hyperparameters": Component(
        "the hyperparameters",
        "The program set the optimizer's hyperparameters differently in the two runs.",
        "check the values that the hyperparameters are computed from",
    ),
    "update": Component(
        "the update of the previous step",
        "The previous step changed the parameters differently: its gradients, the optimizer, or the"
        " program's own code.",
        DETERMINISTIC,
    ),
    "loss": Component(
        "the loss",
        "Parameters and inputs are identical, so the forward pass differs, or data that only the"
        " loss uses, such as labels.",
        DETERMINISTIC,
    ),
    "order": Component(
        "the order of the program",
        "An operator receives different tensors in the two runs: the program iterates over its"
        " tensors in a different order.",
        "look for a loop over a set or a list made from one (PYTHONHASHSEED), over files, or over"
        " results in the order in which threads finish",
    ),
    "ranks": Component(
        "a replicated tensor",
        "The ranks of one run have different bits in a tensor that all of them must share.",
        "",
    ),
    "events": Component(
        "the sequence of events",
        "One run made calls, backward passes or steps that the other run did not make.",
        "check the conditions that they depend on: the time, a generator, a file, the order of a"
        " set",
    ),
}


def component_of(first: FirstDifference) -> str:
    """The component of a difference: a key of `COMPONENTS`."""
    event = first.event
    kind = event.kind.removeprefix("final ")
    if first.how != "digest":
        return "events"
    if kind == "parameter":
        return "parameters" if first.step == 0 and event.kind == "parameter" else "update"
    if kind in ("operator", "data", "output"):
        return _component_of_result(first)
    return {
        "buffer": "buffers",
        "gradient": "gradients",
        "state": "optimizer",
        "new state": "optimizer",
        "new parameter": "optimizer",
    }.get(kind, kind)


def _component_of_result(first: FirstDifference) -> str:
    """The component of a tensor that is recorded within a step."""
    if first.a and first.b and first.a.more.inputs != first.b.more.inputs:
        return "order"
    if first.event.more.backward:
        return "gradients"
    if "gradient" in first.after:
        return "optimizer"
    return "data" if first.event.kind == "data" else "forward"
