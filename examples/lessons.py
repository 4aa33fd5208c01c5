"""Statements of the tutorial (docs/tutorial.md) about this network, each measured by a test.

pytest lessons.py                            every statement; exit code 1 if one is false
pytest lessons.py -k 'state_dict or list'    some of them
pytest lessons.py -rP                        with the measured values
pytest lessons.py --junitxml lessons.xml     statements and measured values as test cases

The docstring of a test begins with the statement. Its last parameter is the subject of the
statement; with its replacement from `CONTRARIES`, the test must fail.
"""

import hashlib
import io
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, grad, stack_module_state
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, softplus
from torch.utils.data import DataLoader

from xor import SimpleClassifier, XORDataset, evaluate, stream

TENSORS = 4  # weight and bias of two layers
EPOCHS = 100
LEARNING_RATE = 0.1
SEEDS = 48  # trained to see which of them learn every point
BIG_BATCH = 2**20  # points of 8 bytes: 8 MiB
LARGEST_LOGIT = 200
CPU = torch.device("cpu")

Measured = Callable[[str], None]
Network = Callable[[], nn.Module]


@pytest.fixture
def measured(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Measured:
    """Record the statement and measured values of a test in the JUnit file, and print them."""

    def record(values: str) -> None:
        record_property("statement", request.function.__doc__.splitlines()[0])
        record_property("measured", values)
        print(values)

    return record


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The network is too small to be split over threads."""
    torch.set_num_threads(1)


# Variants of the network


class HiddenInAList(nn.Module):
    """The hidden layer is in a plain Python list."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(2, 4), nn.Tanh()]
        self.output = nn.Linear(4, 1)

    def forward(self, points: Tensor) -> Tensor:
        """The logits of label 1, one per point."""
        for layer in self.hidden:
            points = layer(points)
        return self.output(points)


class HiddenInAModuleList(HiddenInAList):
    """The hidden layer is in an `nn.ModuleList`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(self.hidden)


class HiddenInAModuleDict(HiddenInAList):
    """The hidden layer is in an `nn.ModuleDict`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(dict(zip(("linear", "tanh"), self.hidden, strict=True)))
        self.hidden = self.layers.values()


class HiddenInASequential(HiddenInAList):
    """The hidden layer is in an `nn.Sequential`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(*self.hidden)


class ListClassifier(nn.Module):
    """All layers are in a list, as tutorials on deeper networks write it."""

    def __init__(self) -> None:
        super().__init__()
        self.list_layer = nn.ModuleList([nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)])

    def forward(self, points: Tensor) -> Tensor:
        """The logits of label 1, one per point."""
        for layer in self.list_layer:
            points = layer(points)
        return points


class WithDropout(SimpleClassifier):
    """Half of the hidden units are dropped at random while the network trains."""

    def forward(self, points: Tensor) -> Tensor:
        """The logits of label 1, one per point."""
        hidden = self.act_fn(self.layer1(points))
        return self.layer2(nn.functional.dropout(hidden, 0.5, self.training))


class RelativeToTheFirst(nn.Module):
    """The answer for a point depends on the first point of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, points: Tensor) -> Tensor:
        """The logits of label 1, one per point."""
        return self.layer(points) - self.layer(points)[:1]


def linear() -> nn.Module:
    """No hidden layer: a straight line between the labels."""
    return nn.Linear(2, 1)


# Points, weights and training, as in xor.py


def data(name: str = "test", seed: int = 0) -> XORDataset:
    """The 2,500 training points or the 500 test points of a seed."""
    return XORDataset(2500 if name == "train" else 500, stream(seed, name))


def fresh(make: Network, seed: int = 0) -> nn.Module:
    """A network with the initial weights of a seed."""
    torch.manual_seed(stream(seed, "init"))
    return make()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of logits (n, 1)."""
    return binary_cross_entropy_with_logits(logits.squeeze(1), labels.float())


def train(network: nn.Module, epochs: int) -> None:
    """Train with shuffled batches of 128 training points."""
    train_set, order = data("train"), torch.Generator().manual_seed(stream(0, "shuffle"))
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for batch in torch.randperm(2500, generator=order).split(128)[:-1]:
            optimizer.zero_grad()
            loss_of(network(train_set.points[batch]), train_set.labels[batch]).backward()
            optimizer.step()


def train_seeds(batch_size: int) -> int:
    """Train `SEEDS` networks at once; the number that classify all 500 test points correctly."""
    networks = [fresh(SimpleClassifier, seed) for seed in range(SEEDS)]
    weights, _ = stack_module_state(networks)
    orders = [torch.Generator().manual_seed(stream(seed, "shuffle")) for seed in range(SEEDS)]
    sets = [data("train", seed) for seed in range(SEEDS)]
    points, labels = torch.stack([s.points for s in sets]), torch.stack([s.labels for s in sets])

    def loss(weights: dict[str, Tensor], points: Tensor, labels: Tensor) -> Tensor:
        return loss_of(functional_call(networks[0], weights, (points,)), labels)

    gradients_of = torch.vmap(grad(loss))
    seeds = torch.arange(SEEDS).unsqueeze(1)
    for _ in range(EPOCHS):
        order = torch.stack([torch.randperm(2500, generator=generator) for generator in orders])
        for batch in order[:, : 2500 // batch_size * batch_size].split(batch_size, dim=1):
            gradients = gradients_of(weights, points[seeds, batch], labels[seeds, batch])
            weights = {
                name: (tensor - LEARNING_RATE * gradients[name]).detach()
                for name, tensor in weights.items()
            }
    for number, network in enumerate(networks):
        network.load_state_dict({name: tensor[number] for name, tensor in weights.items()})
    return sum(evaluate(n, data("test", seed), CPU) == 500 for seed, n in enumerate(networks))


def digest(network: nn.Module) -> str:
    """One digest of the names and bits of all tensors."""
    parts = [name.encode() + t.numpy().tobytes() for name, t in network.state_dict().items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def accelerator() -> str | None:
    """The accelerator of this machine, such as `cuda`, or None."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device else None


# Structure, printing and saving


def registered_and_trained(make: Network) -> tuple[int, bool]:
    """The number of registered tensors, and whether 2 epochs change the hidden layer."""
    network = fresh(make)
    layer = next(iter(network.hidden))
    before = layer.weight.clone(), layer.bias.clone()
    train(network, epochs=2)
    changed = not all(map(torch.equal, before, (layer.weight, layer.bias)))
    return len(list(network.parameters())), changed


def test_plain_list(measured: Measured, make: Network = HiddenInAList) -> None:
    """Layers kept in a plain Python list are not registered, and do not train."""
    registered, changed = registered_and_trained(make)
    measured(
        f"{registered} of {TENSORS} tensors registered; after 2 epochs the hidden layer has"
        f" {'changed' if changed else 'not changed by one bit'}"
    )
    assert (registered, changed) == (TENSORS - 2, False)


CONTAINERS = (HiddenInAModuleList, HiddenInAModuleDict, HiddenInASequential)


def test_containers(measured: Measured, makes: tuple[Network, ...] = CONTAINERS) -> None:
    """Layers in nn.ModuleList, nn.ModuleDict and nn.Sequential are registered, and train."""
    seen = {make.__name__.removeprefix("HiddenInA"): registered_and_trained(make) for make in makes}
    measured(
        "; ".join(
            f"{name}: {registered} of {TENSORS} registered, {'trains' if changed else 'stays'}"
            for name, (registered, changed) in seen.items()
        )
    )
    assert set(seen.values()) == {(TENSORS, True)}


PRINTED = """SimpleClassifier(
  (layer1): Linear(in_features=2, out_features=4, bias=True)
  (act_fn): Tanh()
  (layer2): Linear(in_features=4, out_features=1, bias=True)
)"""
SHAPES = {
    "layer1.weight": (4, 2),
    "layer1.bias": (4,),
    "layer2.weight": (1, 4),
    "layer2.bias": (1,),
}


def test_printed(measured: Measured, make: Network = SimpleClassifier) -> None:
    """The printed network names its layers; they hold 17 parameters in four tensors."""
    network = fresh(make)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    count = sum(tensor.numel() for tensor in network.parameters())
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    measured(f"{len(str(network).splitlines())} lines; {listed}; {count} parameters")
    assert (str(network), shapes, count) == (PRINTED, SHAPES, 17)


def test_state_dict_keys(measured: Measured, make: Network = ListClassifier) -> None:
    """Written with a list, the network has different state_dict keys, so files are incompatible."""
    a, b = fresh(SimpleClassifier), fresh(make)
    for tensor, copy in zip(a.parameters(), b.parameters(), strict=True):
        copy.data.copy_(tensor.data)
    points = data().points
    equal = torch.equal(a(points), b(points))
    keys = next(iter(a.state_dict())), next(iter(b.state_dict()))
    digests = digest(a), digest(b)
    try:
        b.load_state_dict(a.state_dict())
        refused = False
    except RuntimeError:
        refused = True
    measured(
        f"equal weights, {'equal' if equal else 'different'} answers; {keys[0]} and {keys[1]};"
        f" digests {digests[0][:16]} and {digests[1][:16]};"
        f" loading one into the other is {'refused' if refused else 'accepted'}"
    )
    assert equal
    assert refused
    assert keys[0] != keys[1]
    assert digests[0] != digests[1]


def saved(state: dict[str, Tensor]) -> bytes:
    """The bytes of the file of a `state_dict`."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def saved_half_as_large_again(state: dict[str, Tensor]) -> bytes:
    """The bytes of a file that holds different weights."""
    return saved({name: tensor * 1.5 for name, tensor in state.items()})


def test_state_dict(measured: Measured, save: Callable[[dict[str, Tensor]], bytes] = saved) -> None:
    """A saved and loaded state_dict is the same model."""
    network, loaded, points = fresh(SimpleClassifier), SimpleClassifier(), data().points
    train(network, epochs=1)
    file = save(network.state_dict())
    loaded.load_state_dict(torch.load(io.BytesIO(file), weights_only=True))
    digests = digest(network), digest(loaded)
    equal = int((network(points) == loaded(points)).sum())
    measured(
        f"{len(file):,} bytes; digests {digests[0][:16]} and {digests[1][:16]};"
        f" {equal} of 500 answers equal"
    )
    assert digests[0] == digests[1]
    assert equal == 500


# Loss, gradients and the problem


def sigmoid_then_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss in two parts."""
    return binary_cross_entropy(torch.sigmoid(logits), labels, reduction="none")


def bce_with_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss in one."""
    return binary_cross_entropy_with_logits(logits, labels, reduction="none")


def error_and_slope(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    """The largest error over logits up to ±200 with label 0, and the slope at 200, which is 1."""
    logits = torch.arange(-LARGEST_LOGIT, LARGEST_LOGIT + 1.0, requires_grad=True)
    values = loss(logits, torch.zeros_like(logits))
    values.sum().backward()
    exact = softplus(logits.detach().double(), threshold=2 * LARGEST_LOGIT)
    return float((values.detach().double() - exact).abs().max()), float(logits.grad[-1])


def test_loss_on_logits(
    measured: Measured, in_parts: Callable[[Tensor, Tensor], Tensor] = sigmoid_then_bce
) -> None:
    """BCEWithLogitsLoss stays accurate where sigmoid and BCELoss do not."""
    (error, slope), (error_in_parts, slope_in_parts) = map(
        error_and_slope, (bce_with_logits, in_parts)
    )
    measured(
        f"largest error over logits of ±{LARGEST_LOGIT}: {error:.1g} and {error_in_parts:.3g}"
        f" (BCEWithLogitsLoss, sigmoid + BCELoss); slope at {LARGEST_LOGIT}, which is 1:"
        f" {slope:g} and {slope_in_parts:g}"
    )
    assert error < 1e-4
    assert error_in_parts > 1


def gradient(network: nn.Module, test_set: XORDataset) -> Tensor:
    """All gradients after one more backward pass."""
    loss_of(network(test_set.points), test_set.labels).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def test_zero_grad(
    measured: Measured, between: Callable[[nn.Module], object] = lambda _network: None
) -> None:
    """Gradients add up until zero_grad."""
    network, test_set = fresh(SimpleClassifier), data()
    once = gradient(network, test_set)
    between(network)
    twice = gradient(network, test_set)
    measured(f"the second gradient is {float(twice.norm() / once.norm()):g} times the first")
    assert torch.equal(twice, 2 * once)


def test_to_device(measured: Measured, device: str | None = None) -> None:
    """A network is moved to the device once, a batch each time.

    Without an accelerator the move is to `meta`, PyTorch's device without memory: it keeps the
    rules of a device and computes nothing.
    """
    device = device or accelerator() or "meta"
    network, batch = fresh(SimpleClassifier).to(device), data().points[:128]
    accepted = 0
    for points in (batch, batch.to(device)):
        try:
            network(points)
            accepted += 1
        except RuntimeError:
            pass
    moved = sum(p.device.type == torch.device(device).type for p in network.parameters())
    measured(
        f"on {device}: {moved} tensors stay there after one move; of a batch on the CPU and one"
        f" moved after it {accepted} is accepted"
    )
    assert (moved, accepted) == (TENSORS, 1)


def test_linear_model(measured: Measured, make: Network = linear) -> None:
    """A linear model cannot learn XOR."""
    scores = []
    for network in (fresh(make), fresh(SimpleClassifier)):
        train(network, EPOCHS)
        scores.append(evaluate(network, data(), CPU))
    measured(
        f"{scores[0]} of 500 test points after {EPOCHS} epochs; the network with a hidden layer"
        f" {scores[1]}"
    )
    assert scores[0] < scores[1] == 500


def test_all_right(measured: Measured, train: Callable[[int], int] = train_seeds) -> None:
    """Whether every test point is classified correctly depends on seed and batch size."""
    right = {batch_size: train(batch_size) for batch_size in (128, 512)}
    measured("; ".join(f"batch size {size}: {n} of {SEEDS} seeds" for size, n in right.items()))
    assert right[128] != right[512]
    assert set(right.values()) - {0, SEEDS}


# Evaluation


class Ratio(NamedTuple):
    """The ratio of two times: the median over pairs, and its 95% interval."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        times = f"{self.median:.3f} times as long [{self.low:.3f}, {self.high:.3f}]"
        return f"{times}, {self.pairs} pairs"


def time_ratio(
    slow: Callable[[], object],
    fast: Callable[[], object],
    pairs: int = 61,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Time both in turn, in alternating order; the first two pairs warm up.

    The median is between the ranks `n/2 ± 0.98 √n` with 95%, whatever the distribution.
    """
    ratios = []
    for number in range(pairs + 2):
        seconds = {}
        for call in (slow, fast) if number % 2 else (fast, slow):
            start = clock()
            call()
            seconds[call] = clock() - start
        ratios.append(seconds[slow] / seconds[fast])
    ratios = sorted(ratios[2:])
    reach = math.ceil(0.98 * math.sqrt(pairs))
    low, high = ratios[max(0, pairs // 2 - reach)], ratios[min(pairs - 1, pairs // 2 + reach)]
    return Ratio(ratios[pairs // 2], low, high, pairs)


Guard = Callable[[], AbstractContextManager[object]]


def bytes_for_backward(guard: Guard) -> int:
    """The bytes that a forward pass over the test points saves for the backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.nbytes
        return tensor

    network, points = fresh(SimpleClassifier), data().points
    with guard(), saved_tensors_hooks(pack, lambda tensor: tensor):
        network(points)
    return sum(sizes.values())


def test_no_grad_memory(measured: Measured, guard: Guard = torch.no_grad) -> None:
    """no_grad saves memory."""
    plain, guarded = bytes_for_backward(torch.enable_grad), bytes_for_backward(guard)
    measured(
        f"{plain:,} bytes kept for the backward pass, with `no_grad` {guarded:,}, in a forward pass"
        " of 500 points"
    )
    assert guarded == 0 < plain


def test_no_grad_time(measured: Measured, guard: Guard = torch.no_grad) -> None:
    """no_grad saves time."""
    network, batch = fresh(SimpleClassifier), data().points[:128]

    def plain() -> None:
        for _ in range(20):
            network(batch)

    def guarded() -> None:
        with guard():
            plain()

    ratio = time_ratio(plain, guarded)
    measured(f"without `no_grad` a forward pass takes {ratio}")
    assert ratio.low > 1


def slow_guard() -> AbstractContextManager[object]:
    """A guard that takes longer than it saves."""
    time.sleep(0.01)
    return torch.no_grad()


@torch.no_grad()
def differing(make: Network) -> int:
    """The number of test points whose answers differ between train() and eval()."""
    network, points = fresh(make), data().points
    training, evaluating = network.train()(points), network.eval()(points)
    return int((training != evaluating).sum())


def test_train_and_eval(measured: Measured, make: Network = SimpleClassifier) -> None:
    """train() and eval() change nothing in this network, and do in one with dropout."""
    plain, dropped = differing(make), differing(WithDropout)
    measured(f"{plain} of 500 outputs differ between the modes; with dropout {dropped}")
    assert plain == 0 < dropped


def batch_sizes(drop_last: bool) -> dict[int, int]:
    """The number of batches of each size in an epoch of the training points."""
    sizes: dict[int, int] = {}
    for _, labels in DataLoader(data("train"), batch_size=128, drop_last=drop_last):
        sizes[len(labels)] = sizes.get(len(labels), 0) + 1
    return sizes


def test_drop_last(measured: Measured, drop_last: bool = True) -> None:
    """drop_last keeps the batch size constant."""
    dropped, kept = (
        " and ".join(f"{count} of {size}" for size, count in batch_sizes(drop).items())
        for drop in (drop_last, False)
    )
    measured(f"2500 points in batches of 128: with it {dropped}; without {kept}")
    assert len(batch_sizes(drop_last)) == 1 < len(batch_sizes(False))


def test_shuffle(measured: Measured, make: Network = SimpleClassifier) -> None:
    """The order of the test points changes no score."""
    network = fresh(make)
    train(network, epochs=5)
    test_set, order = data(), torch.Generator().manual_seed(1)
    in_order = evaluate(network, test_set, CPU)
    shuffled_set, order = data(), torch.randperm(500, generator=order)
    shuffled_set.points, shuffled_set.labels = test_set.points[order], test_set.labels[order]
    shuffled = evaluate(network, shuffled_set, CPU)
    measured(f"{in_order} of 500 right in order, {shuffled} shuffled, after 5 epochs")
    assert in_order == shuffled


# Memory


class Pinning(NamedTuple):
    """A device, its function that pins a tensor, and the bytes that it holds."""

    device: str | None
    pin: Callable[[Tensor], Tensor] = Tensor.pin_memory
    allocated: Callable[[], int] = lambda: int(torch.accelerator.memory_allocated())

    def pinned(self, tensor: Tensor) -> Tensor:
        """The tensor in pinned memory; skips the test where the device does not pin."""
        try:
            return self.pin(tensor)
        except RuntimeError as error:
            pytest.skip(f"{self.device} does not pin: {str(error).splitlines()[0]}")


ACCELERATOR = Pinning(accelerator())


def test_pinned_memory(measured: Measured, pinning: Pinning = ACCELERATOR) -> None:
    """Pinned memory is page-locked memory of the host, not the accelerator's."""
    if pinning.device is None:
        pytest.skip("no accelerator: PyTorch pins nothing without one")
    before = pinning.allocated()
    batch = pinning.pinned(torch.zeros(BIG_BATCH, 2))
    grown = pinning.allocated() - before
    locked = batch.is_pinned()
    measured(
        f"{batch.nbytes / 2**20:g} MiB {'pinned' if locked else 'not pinned'}, on"
        f" {batch.device.type}; the accelerator holds {grown:,} bytes more"
    )
    assert batch.device.type == "cpu"
    assert locked
    assert grown == 0


def copy_ratio(size: int, pinning: Pinning) -> Ratio:
    """The time of a copy from ordinary memory, divided by one from pinned memory."""
    plain = torch.zeros(size, 2)
    pinned = pinning.pinned(plain)

    def copy(batch: Tensor) -> None:
        batch.to(pinning.device)
        if pinning.device != "cpu":
            torch.accelerator.synchronize()

    return time_ratio(lambda: copy(plain), lambda: copy(pinned), pairs=31)


def test_pinned_copies(measured: Measured, pinning: Pinning = ACCELERATOR) -> None:
    """Large batches reach the accelerator sooner from pinned memory."""
    if pinning.device is None:
        pytest.skip("no accelerator: nothing is copied anywhere")
    small, large = copy_ratio(128, pinning), copy_ratio(BIG_BATCH, pinning)
    measured(
        f"from ordinary memory 8 MiB take {large}; a batch of 128 points, pinning included in"
        f" neither, {small}"
    )
    assert large.low > 1


CONTRARIES = {
    test_plain_list: HiddenInAModuleList,
    test_containers: (HiddenInAModuleList, HiddenInAList),
    test_printed: linear,
    test_state_dict_keys: SimpleClassifier,
    test_state_dict: saved_half_as_large_again,
    test_loss_on_logits: bce_with_logits,
    test_zero_grad: nn.Module.zero_grad,
    test_to_device: "cpu",
    test_linear_model: SimpleClassifier,
    test_all_right: lambda _batch_size: SEEDS,
    test_no_grad_memory: nullcontext,
    test_no_grad_time: slow_guard,
    test_train_and_eval: WithDropout,
    test_drop_last: False,
    test_shuffle: RelativeToTheFirst,
    test_pinned_memory: Pinning("cpu", torch.clone, iter([0, 8]).__next__),
    test_pinned_copies: Pinning("cpu", lambda tensor: tensor),
}


@pytest.mark.parametrize("lesson", CONTRARIES, ids=lambda lesson: lesson.__name__[5:])
def test_the_contrary_fails(lesson: Callable[[Measured, object], None]) -> None:
    """A test that cannot fail shows nothing."""
    with pytest.raises(AssertionError):
        lesson(print, CONTRARIES[lesson])
