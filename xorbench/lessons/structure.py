"""Lessons on how a network is put together, printed and saved."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from xorbench.lessons.finding import LessonFinding, found
from xorbench.lessons.networks import (
    RECIPE,
    HiddenInAList,
    HiddenInAModuleDict,
    HiddenInAModuleList,
    HiddenInASequential,
    ListClassifier,
    MakeNetwork,
    fresh,
    points,
    simple,
    train,
)
from xorbench.workload.digest import state_sha256
from xorbench.workload.loop import load_model, save_state
from xorbench.workload.xor import score

TENSORS: Final = 4  # weight and bias of two layers
PRINTED: Final = """SimpleClassifier(
  (layer1): Linear(in_features=2, out_features=4, bias=True)
  (act_fn): Tanh()
  (layer2): Linear(in_features=4, out_features=1, bias=True)
)"""
SHAPES: Final = {
    "layer1.weight": (4, 2),
    "layer1.bias": (4,),
    "layer2.weight": (1, 4),
    "layer2.bias": (1,),
}


def plain_list(make: Callable[[], HiddenInAList] = HiddenInAList) -> LessonFinding:
    """Count what is registered, train, and see whether the hidden layer moved."""
    registered, moved = _registered_and_moved(make)
    return found(
        registered == TENSORS - 2 and not moved,
        f"{registered} of {TENSORS} tensors registered; after 2 epochs the hidden layer has"
        f" {'moved' if moved else 'not moved by one bit'}",
    )


def containers(
    makes: Sequence[Callable[[], HiddenInAList]] = (
        HiddenInAModuleList,
        HiddenInAModuleDict,
        HiddenInASequential,
    ),
) -> LessonFinding:
    """The same for each container."""
    seen = {make.__name__.removeprefix("HiddenInA"): _registered_and_moved(make) for make in makes}
    return found(
        all(registered == TENSORS and moved for registered, moved in seen.values()),
        "; ".join(
            f"{name}: {registered} of {TENSORS} registered, {'trains' if moved else 'stays'}"
            for name, (registered, moved) in seen.items()
        ),
    )


def _registered_and_moved(make: Callable[[], HiddenInAList]) -> tuple[int, bool]:
    network = fresh(make)
    assert isinstance(network, HiddenInAList)
    layer = next(iter(network.hidden))
    before = state_sha256(layer.state_dict())
    train(network, epochs=2)
    return len(list(network.parameters())), state_sha256(layer.state_dict()) != before


def printed(make: MakeNetwork = simple) -> LessonFinding:
    """Print the network, and list its parameters with their shapes."""
    network = fresh(make)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    count = sum(tensor.numel() for tensor in network.parameters())
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    return found(
        str(network) == PRINTED and shapes == SHAPES,
        f"{len(str(network).splitlines())} lines; {listed}; {count} parameters",
    )


def other_keys(make: MakeNetwork = ListClassifier) -> LessonFinding:
    """Give both ways of writing it equal weights; compare answers, keys, digests, and loading."""
    one, other = fresh(simple), fresh(make)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    data = points()
    answers_equal = torch.equal(one(data.points), other(data.points))
    keys = next(iter(one.state_dict())), next(iter(other.state_dict()))
    digests = [state_sha256(network.state_dict())[:16] for network in (one, other)]
    refused = _refuses(other, one.state_dict())
    return found(
        answers_equal and refused and keys[0] != keys[1] and digests[0] != digests[1],
        f"equal weights, {'equal' if answers_equal else 'other'} answers;"
        f" {keys[0]} and {keys[1]}; digests {digests[0]} and {digests[1]};"
        f" loading one into the other is {'refused' if refused else 'accepted'}",
    )


def _refuses(network: nn.Module, state: dict[str, Tensor]) -> bool:
    try:
        network.load_state_dict(state)
    except RuntimeError:
        return True
    return False


def saved_and_loaded(
    save: Callable[[dict[str, Tensor]], bytes] = save_state,
) -> LessonFinding:
    """Train for an epoch, save, load, and compare every bit and every answer."""
    network = fresh(simple)
    train(network, epochs=1)
    state = network.state_dict()
    saved = save(state)
    loaded = load_model(saved, RECIPE.hidden)
    digests = state_sha256(state), state_sha256(loaded.state_dict())
    cpu = torch.device("cpu")
    answers = [score(n, points(), 500, cpu).predictions for n in (network, loaded)]
    return found(
        digests[0] == digests[1] and answers[0] == answers[1],
        f"{len(saved):,} bytes; digests {digests[0][:16]} and {digests[1][:16]};"
        f" {sum(a == b for a, b in zip(*answers, strict=True))} of {RECIPE.test_size}"
        " answers equal",
    )
