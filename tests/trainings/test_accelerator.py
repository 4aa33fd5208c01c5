"""Training on an accelerator, in one process: bits, graphs, clocks, memory, generators, copies."""

from importlib.metadata import version
from typing import Any

import pytest
from accelerator_lines import PACKAGE, lines_of, wanted
from accelerators import lines_run, program_result

from xorbench.xor.matrix.recipe import Recipe


@pytest.fixture(scope="module")
def bits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Trainings on the simulated accelerator, compared with trainings on the CPU."""
    return program_result(tmp_path_factory, "bits")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Trainings on devices with graphs."""
    return program_result(tmp_path_factory, "graphs")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results for clocks, memory, generators, copies and operations, from one process."""
    return program_result(tmp_path_factory, "everything")


# Bits


def test_every_setting_and_engine_agrees_with_the_cpu(bits: dict[str, Any]) -> None:
    """Four engines, two devices, three optimizers, each kind of copy, data on the device."""
    assert len(bits["equal"]) == 32
    assert [name for name, equal in bits["equal"].items() if not equal] == []


def test_memory_is_pinned_on_request(bits: dict[str, Any]) -> None:
    """The settings with `pin_memory` have pinned batches, so identical bits are meaningful."""
    assert bits["pinned"] > 0


def test_nothing_runs_on_the_first_device_if_the_second_is_requested(
    bits: dict[str, Any],
) -> None:
    """Every kernel of every engine and setting was launched on the second device."""
    first, second = bits["on_second"]
    assert (first, second > 0) == (0, True)


# Graphs


def test_a_graph_and_eager_steps_have_identical_bits(graphs: dict[str, Any]) -> None:
    """On the first device, by name and by default, and on the second."""
    assert graphs["equal"] == {"simulated": True, "simulated:0": True, "simulated:1": True}


def test_an_epoch_launches_its_graph(graphs: dict[str, Any]) -> None:
    """The steps of an epoch are launched on the device where they were captured."""
    assert graphs["launched"] > 100


def test_an_empty_graph_is_refused(graphs: dict[str, Any]) -> None:
    """A graph captured on a different device than the training's is empty and refused."""
    assert "graph of an epoch differs from its steps" in graphs["refused"]


# Clocks, counted in kernels


def test_an_epochs_time_includes_all_queued_work(process: dict[str, Any]) -> None:
    """The device has completed every kernel of the epoch when its clock is read."""
    assert process["clocks"]["epoch"] == process["clocks"]["kernels"] > 100


def test_an_epoch_without_synchronization_has_a_wrong_time(process: dict[str, Any]) -> None:
    """Its time includes no kernel, so the test above can fail."""
    assert process["clocks"]["epoch, not synchronized"] == 0


def test_a_calibrations_time_includes_all_queued_work(process: dict[str, Any]) -> None:
    """It has 19 steps of 27 kernels each."""
    assert process["clocks"]["calibration"] == 19 * 27


def test_start_up_excludes_copies_queued_before_it(process: dict[str, Any]) -> None:
    """The loader engine has no set-up; the copy of the model to the device does not count."""
    assert process["clocks"]["startup"] == 0


def test_the_universal_start_up_includes_its_copies(process: dict[str, Any]) -> None:
    """Points, orders and weights are on the device when its clock is read."""
    assert process["clocks"]["universal startup"] >= 3 + Recipe(epochs=3).epochs + 1


# Phases, counted in kernels


def test_the_phases_include_all_work_of_an_epoch(process: dict[str, Any]) -> None:
    """The device is idle at each mark, so each kernel counts in the phase that queued it."""
    seconds = process["phases"]["phases"]
    assert sum(seconds.values()) == process["phases"]["epoch"]
    assert seconds.pop("data") == 0
    assert min(seconds.values()) > 0


def test_batches_are_pinned_on_request(process: dict[str, Any]) -> None:
    """With the setting each batch is pinned; without it no batch is checked."""
    assert process["phases"]["pinned"] == [5, 5]
    assert process["phases"]["not requested"] is None


# Memory, in bytes


def test_the_memory_of_a_case_excludes_other_trainings(process: dict[str, Any]) -> None:
    """An initialized training on the same device does not count."""
    assert process["memory"]["single"] == process["memory"]["next to another"]
    assert process["memory"]["single"][0] > 0


def test_a_correct_training_frees_its_memory(process: dict[str, Any]) -> None:
    """Each epoch after the first frees its memory, and the training frees all at the end."""
    assert process["memory"]["single"][1] == 0
    assert process["memory"]["left"] == 0


def test_trainings_use_no_memory_of_the_other_device(process: dict[str, Any]) -> None:
    """Trainings on the second device never allocated a byte of the first."""
    assert process["memory"]["other device"] == 0


def test_a_training_holds_its_data_and_its_weights(process: dict[str, Any]) -> None:
    """300 points and 300 labels of 8 bytes and four weight tensors, in blocks of 512 bytes."""
    assert process["memory"]["held"] == 2_560 + 2_560 + 4 * 512


def test_the_peak_includes_the_set_up(process: dict[str, Any]) -> None:
    """An engine that captures uses more memory for it than for its epochs."""
    assert process["memory"]["set-up"] == process["memory"]["peak"] > process["memory"]["single"][0]


# Generators


def test_a_training_advances_no_global_generator(process: dict[str, Any]) -> None:
    """Neither of its device nor of the other device."""
    assert process["randomness"]["after"] == [[11, 3], [12, 4]]


def test_a_training_has_its_own_generator_while_it_steps(process: dict[str, Any]) -> None:
    """It starts from the stream `global`, as on the CPU."""
    assert process["randomness"]["own seed"]


def test_a_capture_restores_the_devices_generator(process: dict[str, Any]) -> None:
    """The random draws of the set-up are repeated by the training."""
    assert process["randomness"]["drawn"] == process["randomness"]["restored"] + 1


# Copies


def test_only_a_non_blocking_copy_of_pinned_memory_may_change(process: dict[str, Any]) -> None:
    """As on a real device, changing its source before synchronization changes the copy."""
    copies = process["copies"]
    assert copies["pageable"] == copies["pageable, non-blocking"] == copies["pinned"] == [0, 0]
    assert copies["pinned, non-blocking"] == [1, 1]


@pytest.mark.parametrize("which", ["mixed", "two devices"])
def test_tensors_of_two_devices_do_not_mix(process: dict[str, Any], which: str) -> None:
    """CPU and device, or two devices, are an error, as on real hardware."""
    assert "found at least two devices" in process["copies"][which]


# Operations


def test_the_machine_names_its_devices(process: dict[str, Any]) -> None:
    """Each device has an entry with its index and model."""
    described = process["processes"]["machine"]
    assert described["accelerator"] == "simulated"
    assert [(d["device"], d["name"]) for d in described["devices"]] == [
        ("simulated:0", "Simulated 1"),
        ("simulated:1", "Simulated 1"),
    ]


def test_an_unavailable_device_has_a_reason(process: dict[str, Any]) -> None:
    """Its index is too high, or the accelerator has a different type."""
    reasons = process["processes"]["reasons"]
    assert [reasons[name] for name in ("cpu", "simulated", "simulated:1")] == [None, None, None]
    assert reasons["simulated:2"] == "no simulated:2: this machine has 2 simulated device(s)"
    assert reasons["cuda"] == "no cuda device: the accelerator here is simulated"


def test_with_fewer_devices_the_missing_ones_have_a_reason(process: dict[str, Any]) -> None:
    """The reason names the available devices."""
    missing = f"no simulated device: this PyTorch ({version('torch')}) sees no accelerator"
    assert process["fewer"] == {
        "0": {"simulated": missing, "simulated:1": missing},
        "1": {
            "simulated": None,
            "simulated:1": "no simulated:1: this machine has 1 simulated device(s)",
        },
    }


def test_a_device_unknown_to_inductor_has_no_compile_engine(process: dict[str, Any]) -> None:
    """The case is skipped with this reason instead of failing."""
    assert (
        process["processes"]["compile"]
        == "torch.compile has no code generator for simulated devices"
    )


def test_stress_generates_load_on_the_requested_device(process: dict[str, Any]) -> None:
    """Only on the second device."""
    assert process["processes"]["stressed"] == [False, True]


def test_a_rank_sets_its_device_as_the_current_one(process: dict[str, Any]) -> None:
    """It does so before it joins, since the first call of a library allocates memory there."""
    assert process["joined"]["current"] == 1


# Precision and lessons


def test_tf32_is_set_only_while_the_training_steps(process: dict[str, Any]) -> None:
    """Other trainings of the process have their own setting; the float64 reference uses it."""
    assert process["numbers"]["tf32"] == ["high", "highest"]
    assert process["numbers"]["bits"] == 11


def test_autocast_applies_to_the_device(process: dict[str, Any]) -> None:
    """With bfloat16 the bits are different."""
    assert process["numbers"]["bfloat16"]


def test_the_lessons_for_an_accelerator_run(process: dict[str, Any]) -> None:
    """A network is moved once, pinned memory is host memory, and copies are timed."""
    moved, pinned, pays = (process["lessons"][name] for name in ("moved", "pinned", "pays"))
    assert moved[0]
    assert "on simulated: 4 tensors" in moved[1][0]
    assert pinned == [True, ["8 MiB pinned, on cpu; the accelerator holds 0 bytes more"]]
    assert "31 pairs" in pays[1][0]


# Executed lines


NOT_RUN: dict[tuple[str, str], str] = {
    (
        "machine/universal/triton_backend.py",
        'if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():',
    ): "it requires CUDA by name; tests/trainings/test_universal_triton.py calls it",
}
"""File and text of each line that no program runs on the device, with the reason."""


def test_every_line_that_uses_a_device_runs(
    tmp_path_factory: pytest.TempPathFactory,
    bits: dict[str, Any],
    graphs: dict[str, Any],
    process: dict[str, Any],
) -> None:
    """A program above executes it, or `NOT_RUN` lists it."""
    assert bits
    assert graphs
    assert process
    executed = lines_run(tmp_path_factory)
    missing = {
        (name, text_of(name, line))
        for name, lines in wanted().items()
        for line in lines
        if (name, line) not in executed
    }
    assert missing == set(NOT_RUN)


def text_of(name: str, line: int) -> str:
    """A line of the package."""
    return (PACKAGE / name).read_text().splitlines()[line - 1].strip()


def test_lines_that_use_a_device_are_found() -> None:
    """Types, modules and calls are found, also in the head of a block."""
    source = (
        "if case.device.type != 'cpu':\n    pass\n"
        "x = 1\ny = [torch.cuda.is_available()]\n"
        "def f():\n    return device_type(x)\n"
    )
    assert lines_of(source) == {1, 4, 6}
