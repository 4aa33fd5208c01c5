"""Training on an accelerator, in one process: bits, graphs, clocks, memory, generators, copies."""

from importlib.metadata import version
from typing import Any

import pytest
from accelerator_lines import PACKAGE, lines_of, wanted
from accelerators import found, lines_run

from xorbench.xor.matrix.recipe import Recipe


@pytest.fixture(scope="module")
def bits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Trainings on the simulated accelerator beside those on the CPU."""
    return found(tmp_path_factory, "bits")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Trainings on devices that have graphs."""
    return found(tmp_path_factory, "graphs")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Clocks, memory, generators, copies and operations, found in one process."""
    return found(tmp_path_factory, "everything")


# Bits


def test_every_setting_and_engine_has_the_bits_of_the_cpu(bits: dict[str, Any]) -> None:
    """Four engines, two devices, three optimizers, copies of each kind, data on the device."""
    assert len(bits["equal"]) == 32
    assert [name for name, equal in bits["equal"].items() if not equal] == []


def test_memory_is_pinned_where_it_is_asked_for(bits: dict[str, Any]) -> None:
    """The settings with `pin_memory` have pinned batches, so equal bits are no accident."""
    assert bits["pinned"] > 0


def test_nothing_runs_on_the_first_device_when_the_second_is_asked_for(
    bits: dict[str, Any],
) -> None:
    """Every kernel of every engine and setting was launched on the second."""
    first, second = bits["on_second"]
    assert (first, second > 0) == (0, True)


# Graphs


def test_a_graph_has_the_bits_of_its_steps_on_each_device(graphs: dict[str, Any]) -> None:
    """On the first device, by name and by default, and on the second."""
    assert graphs["equal"] == {"simulated": True, "simulated:0": True, "simulated:1": True}


def test_an_epoch_launches_its_graph(graphs: dict[str, Any]) -> None:
    """The steps of an epoch are launched on the device where they were captured."""
    assert graphs["launched"] > 100


def test_a_graph_that_moves_no_weight_is_refused(graphs: dict[str, Any]) -> None:
    """Captured on another device than the training's, the graph is empty: it is never trusted."""
    assert "graph of an epoch differs from its steps" in graphs["refused"]


# Clocks, counted in kernels


def test_an_epoch_holds_all_the_work_that_it_queued(one: dict[str, Any]) -> None:
    """The device has done every kernel of the epoch when its clock is read."""
    assert one["clocks"]["epoch"] == one["clocks"]["kernels"] > 100


def test_an_epoch_that_is_not_waited_for_is_a_wrong_time(one: dict[str, Any]) -> None:
    """Without its synchronization the clock sees no kernel: the test above can fail."""
    assert one["clocks"]["epoch, not waited for"] == 0


def test_a_calibration_holds_all_the_work_that_it_queued(one: dict[str, Any]) -> None:
    """19 steps of 27 kernels each."""
    assert one["clocks"]["calibration"] == 19 * 27


def test_start_up_holds_no_copies_queued_before_it(one: dict[str, Any]) -> None:
    """The loader engine needs nothing to be ready, whatever the model's way to the device takes."""
    assert one["clocks"]["startup"] == 0


def test_the_universal_start_up_holds_the_copies_that_it_queued(one: dict[str, Any]) -> None:
    """Its points, its orders and its weights have arrived when its clock is read."""
    assert one["clocks"]["universal startup"] >= 3 + Recipe(epochs=3).epochs + 1


# Phases, counted in kernels


def test_the_phases_hold_all_work_of_an_epoch(one: dict[str, Any]) -> None:
    """The device is idle at each mark, so that each kernel is in the phase that queued it."""
    seconds = one["phases"]["phases"]
    assert sum(seconds.values()) == one["phases"]["epoch"]
    assert seconds.pop("data") == 0
    assert min(seconds.values()) > 0


def test_batches_are_pinned_where_it_is_asked_for(one: dict[str, Any]) -> None:
    """Each batch of the loader is; where it is not asked for, none is looked at."""
    assert one["phases"]["pinned"] == [5, 5]
    assert one["phases"]["not asked for"] is None


# Memory, in bytes


def test_the_memory_of_a_case_is_its_own(one: dict[str, Any]) -> None:
    """A training that stands open on the same device adds nothing to it."""
    assert one["memory"]["alone"] == one["memory"]["beside another"]
    assert one["memory"]["alone"][0] > 0


def test_a_sound_training_leaves_nothing_behind(one: dict[str, Any]) -> None:
    """Each epoch after the first gives back all that it took, and the training all in the end."""
    assert one["memory"]["alone"][1] == 0
    assert one["memory"]["left"] == 0


def test_the_other_device_holds_nothing(one: dict[str, Any]) -> None:
    """Trainings on the second device never held a byte of the first."""
    assert one["memory"]["other device"] == 0


def test_a_training_holds_its_data_and_its_weights(one: dict[str, Any]) -> None:
    """300 points of 8 bytes, 300 labels of 8, four tensors of weights, in blocks of 512 bytes."""
    assert one["memory"]["held"] == 2_560 + 2_560 + 4 * 512


def test_the_peak_holds_that_of_opening(one: dict[str, Any]) -> None:
    """An engine that captures takes more than its epochs do."""
    assert one["memory"]["opening"] == one["memory"]["peak"] > one["memory"]["alone"][0]


# Generators


def test_a_training_moves_the_generator_of_no_other_device(one: dict[str, Any]) -> None:
    """Nor its own device's, as others see it."""
    assert one["randomness"]["after"] == [[11, 3], [12, 4]]


def test_a_training_has_its_own_generator_while_it_steps(one: dict[str, Any]) -> None:
    """It starts from the stream `global`, as the CPU's does."""
    assert one["randomness"]["own seed"]


def test_a_capture_gives_the_devices_generator_back(one: dict[str, Any]) -> None:
    """What is drawn on the device while an engine opens is drawn again."""
    assert one["randomness"]["drawn"] == one["randomness"]["restored"] + 1


# Copies


def test_a_copy_holds_what_its_source_held_unless_pinned_and_not_waited_for(
    one: dict[str, Any],
) -> None:
    """The device is as treacherous as a real one: there, a source that changes is a wrong copy."""
    copies = one["copies"]
    assert copies["pageable"] == copies["pageable, not waited for"] == copies["pinned"] == [0, 0]
    assert copies["pinned, not waited for"] == [1, 1]


@pytest.mark.parametrize("which", ["mixed", "two devices"])
def test_tensors_of_two_devices_do_not_mix(one: dict[str, Any], which: str) -> None:
    """CPU and device, or two devices: an error, as on a real one."""
    assert "found at least two devices" in one["copies"][which]


# Operations


def test_the_machine_names_its_devices(one: dict[str, Any]) -> None:
    """Type, index, model and memory of each, and none for the type alone."""
    seen = one["processes"]["machine"]
    assert seen["accelerator"] == "simulated"
    assert [(d["device"], d["name"]) for d in seen["devices"]] == [
        ("simulated:0", "Simulated 1"),
        ("simulated:1", "Simulated 1"),
    ]


def test_a_device_that_is_not_there_has_a_reason(one: dict[str, Any]) -> None:
    """Of a known type, of another type, of an index too high."""
    reasons = one["processes"]["reasons"]
    assert [reasons[name] for name in ("cpu", "simulated", "simulated:1")] == [None, None, None]
    assert reasons["simulated:2"] == "no simulated:2: this machine has 2 simulated device(s)"
    assert reasons["cuda"] == "no cuda device: the accelerator here is simulated"


def test_none_or_one_device_is_no_device_and_no_second_one(one: dict[str, Any]) -> None:
    """The reason says what there is."""
    none = f"no simulated device: this PyTorch ({version('torch')}) sees no accelerator"
    assert one["fewer"] == {
        "0": {"simulated": none, "simulated:1": none},
        "1": {
            "simulated": None,
            "simulated:1": "no simulated:1: this machine has 1 simulated device(s)",
        },
    }


def test_a_device_that_inductor_does_not_know_has_no_compile_engine(one: dict[str, Any]) -> None:
    """The case is skipped with this reason, where it would fail."""
    assert (
        one["processes"]["compile"] == "torch.compile has no code generator for simulated devices"
    )


def test_stress_keeps_the_device_busy_that_is_asked_for(one: dict[str, Any]) -> None:
    """The second device, and not the first."""
    assert one["processes"]["stressed"] == [False, True]


def test_a_rank_makes_its_device_the_current_one(one: dict[str, Any]) -> None:
    """Before it joins the others: a library's first call takes memory there."""
    assert one["joined"]["current"] == 1


# Precision and lessons


def test_tf32_is_set_while_the_training_steps_alone(one: dict[str, Any]) -> None:
    """Another training of the process has its own setting; the float64 twin knows of it."""
    assert one["numbers"]["tf32"] == ["high", "highest"]
    assert one["numbers"]["bits"] == 11


def test_autocast_reaches_the_device(one: dict[str, Any]) -> None:
    """With bfloat16 the bits are others."""
    assert one["numbers"]["bfloat16"]


def test_the_lessons_of_an_accelerator_are_tried(one: dict[str, Any]) -> None:
    """A network is moved once, and pinned memory is memory of the host; copies are timed."""
    moved, pinned, pays = (one["lessons"][name] for name in ("moved", "pinned", "pays"))
    assert moved[0]
    assert "on simulated: 4 tensors" in moved[1][0]
    assert pinned == [True, ["8 MiB pinned, on cpu; the accelerator holds 0 bytes more"]]
    assert "31 pairs" in pays[1][0]


# Which lines ran


NOT_RUN: dict[tuple[str, str], str] = {
    (
        "machine/universal/triton_backend.py",
        'if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():',
    ): "it asks for CUDA by name; tests/trainings/test_universal_triton.py calls it",
}
"""File and text of a line that no program runs on the device, and why."""


def test_every_line_that_asks_for_a_device_runs(
    tmp_path_factory: pytest.TempPathFactory,
    bits: dict[str, Any],
    graphs: dict[str, Any],
    one: dict[str, Any],
) -> None:
    """In a program above; what cannot is listed with its reason, and nothing else."""
    assert bits
    assert graphs
    assert one
    seen = lines_run(tmp_path_factory)
    missing = {
        (name, text_of(name, line))
        for name, lines in wanted().items()
        for line in lines
        if (name, line) not in seen
    }
    assert missing == set(NOT_RUN)


def text_of(name: str, line: int) -> str:
    """A line of the package."""
    return (PACKAGE / name).read_text().splitlines()[line - 1].strip()


def test_a_line_that_asks_is_found() -> None:
    """The walk itself can fail: it sees types, modules and calls, at the head of a block too."""
    source = (
        "if case.device.type != 'cpu':\n    pass\n"
        "x = 1\ny = [torch.cuda.is_available()]\n"
        "def f():\n    return device_type(x)\n"
    )
    assert lines_of(source) == {1, 4, 6}
