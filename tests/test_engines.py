"""Engines are bitwise identical or refuse a case: networks, settings, faults."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from xorbench.machine.universal import golden
from xorbench.process.operations import OPERATIONS, Session
from xorbench.process.universal_training import UniversalTraining
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.faults import FAULTS, FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.matrix.support import unsupported_reason
from xorbench.xor.training import engines, tensor_digest
from xorbench.xor.training.engines import TrainingSpec, UnsupportedCase, compiling, operator_trace
from xorbench.xor.training.engines.spec import Orders
from xorbench.xor.training.faults import inject
from xorbench.xor.training.problem import XorPoints, loss_of, make_points
from xorbench.xor.training.seeding import generator
from xorbench.xor.training.training import Training

CPU = torch.device("cpu")
SMALL = Recipe(train_size=300, test_size=20, epochs=3)
BASE = Case(batch_size=64, drop_last=False)  # 300 is no multiple: the last batch is short
EXACT = ("fetch", "tensor", "replay")


def epoch_digests(case: Case, faults: tuple[FaultSpec, ...] = ()) -> list[str]:
    """The epoch digests of a new training. Raises `UnsupportedCase`."""
    training = Training(case, SMALL, alter=lambda training: inject(training, faults))
    return [training.step().digest for _ in range(SMALL.epochs)]


def parts_of(model: nn.Module, engine: str, **changes: Any) -> TrainingSpec:
    """A small problem for any network, equal for every engine."""
    spec = TrainingSpec(
        case=replace(BASE, engine=engine),
        device=CPU,
        data=make_points(300, 0.1, 0, "train"),
        model=model,
        loss=loss_of,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        shuffle=generator(0, "shuffle"),
    )
    return replace(spec, **changes)


def opened(model: nn.Module, engine: str, **changes: Any) -> Callable[[], Tensor]:
    """The engine's epoch function for that problem."""
    return engines.opened(engine, parts_of(model, engine, **changes))


# The same bits


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize(
    "configs",
    [
        {},
        {"drop_last": True},
        {"batch_size": 400},
        {"pin_memory": True, "non_blocking": True, "data_on_device": True, "tf32": True},
        {"optimizer": "fused"},
        {"optimizer": "foreach"},
        {"dtype": "float64"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_an_engine_is_bitwise_identical_to_the_loader(engine: str, configs: dict[str, Any]) -> None:
    """The epoch digests are equal with every setting, with and without a short last batch."""
    case = replace(BASE, **configs)
    assert epoch_digests(replace(case, engine=engine)) == epoch_digests(case)


@pytest.mark.parametrize("engine", EXACT)
def test_an_engine_returns_the_loaders_loss(engine: str) -> None:
    """The last step's loss is bitwise identical."""
    losses = [
        Training(replace(BASE, engine=name), SMALL).step().loss for name in (engine, "loader")
    ]
    assert losses[0] == losses[1]


def more_networks() -> dict[str, Callable[[], nn.Module]]:
    """Networks that differ from the recipe's."""
    return {
        "deeper": lambda: nn.Sequential(
            nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8), nn.Sigmoid(), nn.Linear(8, 1)
        ),
        "normalized": lambda: nn.Sequential(
            nn.Linear(2, 8), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 1)
        ),
        "half frozen": lambda: nn.Sequential(
            nn.Linear(2, 8).requires_grad_(False), nn.Tanh(), nn.Linear(8, 1, bias=False)
        ),
    }


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("network", more_networks())
def test_a_different_network_is_bitwise_identical(engine: str, network: str) -> None:
    """Every entry of the state equals the loader's with other layers, buffers, frozen weights."""
    states = []
    for name in ("loader", engine):
        torch.manual_seed(0)
        model = more_networks()[network]()
        epoch = opened(model, name)
        for _ in range(3):
            epoch()
        states.append(tensor_digest.state_sha256(model.state_dict()))
    assert states[0] == states[1]


def test_replay_refuses_a_call_without_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its result is still correct for the captured rows, so different rows verify it."""

    def nothing(*_args: object, **_kwargs: object) -> None: ...

    fastest = operator_trace._fastest

    def broken(target: Any, *arguments: Any) -> Any:
        return nothing if "addmm" in str(target) else fastest(target, *arguments)

    monkeypatch.setattr(operator_trace, "_fastest", broken)
    with pytest.raises(UnsupportedCase, match="differs from the eager step"):
        Training(replace(BASE, engine="replay"), SMALL)


def test_orders_advance_the_generator_like_a_dataloader() -> None:
    """After an epoch of either, the generator has the same state."""
    training = Training(BASE, SMALL)
    training.run_epoch()
    shuffle = generator(0, "shuffle")
    orders = Orders(SMALL.train_size, shuffle)
    orders.begin()
    orders.end()
    assert torch.equal(shuffle.get_state(), training.spec.shuffle.get_state())


def test_a_missing_draw_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the discarded order, the epoch digests diverge from the second epoch on."""
    monkeypatch.setattr(Orders, "end", lambda _self: None)
    diverged = zip(epoch_digests(replace(BASE, engine="tensor")), epoch_digests(BASE), strict=True)
    assert [a == b for a, b in diverged] == [True, False, False]


def test_compile_trains_on_the_loaders_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that does not change operators, the epoch digests are the loader's."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert epoch_digests(replace(BASE, engine="compile")) == epoch_digests(BASE)


def test_persistent_workers_differ_from_the_second_epoch_on() -> None:
    """Persistent loader workers get their base seed once (workload.md)."""
    kept = epoch_digests(replace(BASE, num_workers=1, persistent_workers=True))
    assert [a == b for a, b in zip(kept, epoch_digests(BASE), strict=True)] == [True, False, False]


# What an engine cannot support


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1)), {}, "random operators"),
        (nn.Linear(2, 1), {"data": Dataset()}, "not Dataset"),
    ],
    ids=["dropout", "data set"],
)
def test_replay_refuses_an_unsupported_training(
    model: nn.Module, changes: dict[str, Any], message: str
) -> None:
    """A random operator in the step and a data set without tensors are errors."""
    with pytest.raises(UnsupportedCase, match=message):
        opened(model, "replay", **changes)


def test_replay_refuses_an_optimizer_with_state() -> None:
    """Momentum is state of the optimizer, which a captured step would not update."""
    model = nn.Linear(2, 1)
    momentum = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(UnsupportedCase, match="momentum"):
        opened(model, "replay", optimizer=momentum)


def test_replay_names_a_missing_interface_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a private interface the engine refuses the case."""
    monkeypatch.delattr(torch._C, "_VariableFunctions")
    lacks = r"needs torch\._C\._VariableFunctions, which PyTorch .* lacks"
    with pytest.raises(UnsupportedCase, match=lacks):
        opened(nn.Linear(2, 1), "replay")


@pytest.mark.parametrize("name", ["operator_trace", "replay"])
def test_only_one_file_uses_private_interfaces_of_pytorch(name: str) -> None:
    """The other files of the engine use no underscore names except ATen's operators."""
    source = Path(engines.__file__).with_name(f"{name}.py").read_text()
    assert re.findall(r"(?:torch|optimizer|module|target)\._\w+", source) == []


def test_a_refused_capture_restores_the_model() -> None:
    """Weights and random states are unchanged."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1))
    before, draws = tensor_digest.state_sha256(model.state_dict()), torch.get_rng_state()
    with pytest.raises(UnsupportedCase):
        opened(model, "replay")
    assert tensor_digest.state_sha256(model.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), draws)


def test_a_captured_step_with_different_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong operator call is detected before the first epoch."""
    fastest = operator_trace._fastest

    def wrong(target: Any, example: Any, out: dict[str, Tensor]) -> Any:
        return (
            torch.sigmoid
            if target is torch.ops.aten.tanh.default
            else fastest(target, example, out)
        )

    monkeypatch.setattr(operator_trace, "_fastest", wrong)
    with pytest.raises(UnsupportedCase, match="differs from"):
        Training(replace(BASE, engine="replay"), SMALL)


# Those that end the process or are no part of the epochs; and a race, whose epoch digests vary.
APART = {"crash", "hang", "grow", "worker-noise", "reload-flip", "race"}
HARMLESS = sorted({f.name for f in FAULTS.values() if f.kind == "training"} - APART)


@pytest.mark.parametrize("engine", [*EXACT, "compile"])
def test_an_engine_supports_each_fault_or_refuses_it(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch digests are the loader's with the same fault, or the engine refuses it."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    supported = 0
    for name in HARMLESS:
        fault = (FaultSpec(name, {"epoch": 1, "step": 1, "bit": 20, "ms": 0}),)
        try:
            seen = epoch_digests(replace(BASE, engine=engine), fault)
        except UnsupportedCase:
            continue
        supported += 1
        assert seen == epoch_digests(BASE, fault), name
    assert supported >= len(HARMLESS) / 2


@pytest.mark.parametrize(
    ("case", "recipe", "message"),
    [
        (Case(engine="tensor", num_workers=2), Recipe(), "no loader workers"),
        (Case("cuda", num_workers=2, data_on_device=True), Recipe(), "data on the device"),
        (Case("cuda", pin_memory=True, data_on_device=True), Recipe(), "only host memory"),
        (Case(engine="universal", dtype="float64"), Recipe(), "float64"),
        (Case(engine="universal", optimizer="fused"), Recipe(), "fused"),
        (Case(engine="universal"), Recipe(hidden=5), "hidden"),
        (Case(engine="universal"), Recipe(epochs=10_001), "visits"),
        (Case(engine="universal"), Recipe(), ""),
        (Case("cpu", pin_memory=True, data_on_device=True, num_workers=2), Recipe(), ""),
    ],
)
def test_an_unsupported_setting_has_a_reason(case: Case, recipe: Recipe, message: str) -> None:
    """Such a case is skipped, never trained without its setting."""
    reason = unsupported_reason(case, recipe)
    assert message in reason
    assert bool(message) == bool(reason)


@pytest.mark.parametrize("missing", ["compiler", "headers", "Triton"])
def test_compile_names_what_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a compiler, Python's headers, or Triton for CUDA."""
    monkeypatch.setattr(compiling.shutil, "which", lambda _name: missing != "compiler")
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda _name: "nowhere")
    device = "cuda" if missing == "Triton" else "cpu"
    assert missing in str(compiling.unavailable_reason(device)).replace("header files", "headers")


# The universal training


def test_the_universal_engine_has_the_golden_epoch_digests() -> None:
    """The digest of every epoch is golden."""
    training = UniversalTraining(Case(engine="universal"), Recipe(epochs=3))
    assert [training.step().digest for _ in range(3)] == list(golden.load().epoch_digests[:3])


@pytest.mark.parametrize("batch_size", [256, 100])
def test_the_universal_engine_equals_golden_values_or_the_oracle(batch_size: int) -> None:
    """Batch size 256 has a golden value, 100 has none; digest and score are equal in both cases."""
    training = UniversalTraining(Case(engine="universal", batch_size=batch_size), Recipe())
    for _ in range(100):
        training.step()
    facts = training.checked()
    assert all(fact["expected"] == fact["actual"] for fact in facts)
    assert ("golden" in facts[0]["what"]) == (batch_size == 256)
    if batch_size == 256:
        assert facts[1]["actual"] == "499/500"


def test_a_flipped_bit_of_the_universal_engine_is_detected() -> None:
    """Its digest differs from the oracle's."""
    fault = FaultSpec("flip-weight", {"epoch": 1, "bit": 22})
    training = UniversalTraining(replace(BASE, engine="universal"), SMALL, faults=[fault])
    for _ in range(SMALL.epochs):
        training.step()
    digests = training.checked()[0]
    assert digests["expected"] != digests["actual"]


def test_the_universal_engine_refuses_an_unsupported_fault() -> None:
    """It does not train without the fault."""
    with pytest.raises(UnsupportedCase, match="skip-batch"):
        UniversalTraining(Case(engine="universal"), SMALL, faults=[FaultSpec("skip-batch")])


def test_the_universal_steps_of_torch_equal_the_kernel() -> None:
    """The implementation for accelerators gives identical weights, and its weights can be set."""
    from xorbench.machine.universal import numba_single, torch_backend
    from xorbench.machine.universal.spec import UniversalRecipe

    recipe = UniversalRecipe(train_size=100, batch_size=32, epochs=2)
    kernel, torch_steps = (
        numba_single.NumbaStepper(recipe, 3),
        torch_backend.TorchStepper(recipe, 3, "cpu"),
    )
    for stepper in (kernel, torch_steps):
        stepper.epoch()
        stepper.weights = stepper.weights * 2
        stepper.epoch()
        with pytest.raises(IndexError):
            stepper.epoch()
    assert (kernel.weights == torch_steps.weights).all()


def test_a_process_reports_the_start_up_of_an_engine() -> None:
    """Opening reports the start-up; finishing the universal engine reports its golden checks."""
    session = Session()
    answers = {}
    for engine in ("replay", "universal"):
        case = {"engine": engine, "batch_size": 64}
        recipe = {"train_size": 300, "test_size": 20, "epochs": 1}
        answers[engine] = OPERATIONS["open"](session, case=case, recipe=recipe, faults=[])
        OPERATIONS["step"](session, training=answers[engine]["training"])
    done = OPERATIONS["finish"](session, training=2, with_state=True)
    assert all(answer["startup_s"] > 0 for answer in answers.values())
    assert done["golden"][0]["expected"] == done["weights_sha256"]
    assert answers["replay"]["inputs_sha256"] != answers["universal"]["inputs_sha256"]


def test_data_on_the_device_include_earlier_faults() -> None:
    """A fault that changed the points is not lost by the copy."""
    fault = (FaultSpec("flip-data", {"bit": 20}),)
    assert (
        epoch_digests(replace(BASE, data_on_device=True), fault)
        == epoch_digests(BASE, fault)
        != epoch_digests(BASE)
    )
    assert isinstance(Training(replace(BASE, data_on_device=True), SMALL).spec.data, XorPoints)
