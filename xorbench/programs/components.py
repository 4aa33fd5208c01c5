"""The parts of a training, of which one is the first to differ, and what it means when it is."""

from dataclasses import dataclass
from typing import Final

from xorbench.programs.first_difference import FirstDifference

DETERMINISTIC: Final = (
    "torch.use_deterministic_algorithms(True) takes the deterministic form of an operator, or"
    " raises where PyTorch has none"
)


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a training that can be the first to differ, and what it means when it is."""

    title: str
    meaning: str
    hint: str


COMPONENTS: Final[dict[str, Component]] = {
    "parameters": Component(
        "the initial parameters",
        "The model is initialised without a seed, before the seed is set, or with another one.",
        "set the seed before the model is made",
    ),
    "resumed": Component(
        "what it resumed from",
        "The run starts from weights that run 1 had later: it found a file of run 1 and resumed.",
        "keep the file in the working folder, of which each run gets a copy",
    ),
    "batch": Component(
        "the batch",
        "The order of the data or its augmentation is not seeded.",
        "",
    ),
    "input": Component(
        "the output of an earlier call",
        "A model or an augmentation that was called before gave something else.",
        "",
    ),
    "data": Component(
        "the data",
        "A tensor that the program brings in beside the inputs of its modules differs, such as a"
        " label or a weight of the loss.",
        "",
    ),
    "buffers": Component(
        "a buffer",
        "The forward pass before this step left other statistics.",
        DETERMINISTIC,
    ),
    "forward": Component(
        "the forward pass",
        "An operator gave other bits for equal inputs: it is not deterministic, or draws from a"
        " generator, as dropout does.",
        DETERMINISTIC,
    ),
    "gradients": Component(
        "the backward pass",
        "An operator of the backward pass gave other bits for equal inputs: it is not"
        " deterministic.",
        DETERMINISTIC,
    ),
    "optimizer": Component(
        "the optimizer",
        "Equal gradients led to other parameters or another state of the optimizer.",
        "look for randomness, and for hyperparameters that differ",
    ),
    "hyperparameters": Component(
        "the hyperparameters",
        "The optimizer has other hyperparameters, so the program set them otherwise.",
        "look for what the learning rate, or another of them, is computed from",
    ),
    "update": Component(
        "the update of the step before",
        "Between the gradients of the last step and this step something changed the parameters:"
        " the gradients, the optimizer, or the program's own code.",
        DETERMINISTIC,
    ),
    "loss": Component(
        "the loss",
        "The parameters and the inputs are equal, so the forward pass differs, or data that goes"
        " into the loss alone, such as labels.",
        DETERMINISTIC,
    ),
    "order": Component(
        "the order of the program",
        "An operator is given another tensor in the one run than in the other: the program goes"
        " through its tensors in another order.",
        "look for a loop over a set, or over what was made from one (PYTHONHASHSEED), over files,"
        " or over what threads have finished",
    ),
    "events": Component(
        "what the program does",
        "One run made calls, backward passes or steps that the other did not make.",
        "look for what decides about them: the time, a generator, a file, the order of a set",
    ),
}


def component_of(first: FirstDifference) -> str:
    """The component that a difference is in: a key of `COMPONENTS`."""
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
    """What a tensor that is looked at within a step belongs to."""
    if first.a and first.b and first.a.more.inputs != first.b.more.inputs:
        return "order"
    if first.event.more.backward:
        return "gradients"
    if "gradient" in first.after:
        return "optimizer"
    return "data" if first.event.kind == "data" else "forward"
