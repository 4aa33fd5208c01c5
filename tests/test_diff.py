"""The divergence of two trainings from records, from traces, and by retraining."""

import json
import math
import shlex
import shutil
import struct
import sys
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import pytest
from conftest import Completed, Xorbench, call_in, once, reported, run_in, with_epochs

from xorbench.errors import BadFile, BadOption
from xorbench.machine import kernels
from xorbench.programs.conclusion import element_details
from xorbench.programs.elements import Difference
from xorbench.records import trace as traces
from xorbench.records.trace import (
    CaseTrace,
    EpochTrace,
    More,
    TracedTraining,
    TraceEvent,
    TraceStep,
)
from xorbench.runtime.start import machine_difference
from xorbench.xor.matrix.axes import CASE_AXES, Axis, read_env
from xorbench.xor.matrix.case import (
    DTYPES,
    OPTIMIZERS,
    START_METHODS,
    Case,
    ProcessConfig,
    variant_id,
)
from xorbench.xor.matrix.case_ids import read_variant
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.trace import report
from xorbench.xor.trace.diff import diff, trace_commands
from xorbench.xor.trace.divergence import TracePlace, compare, first_epoch, first_place, growth
from xorbench.xor.trace.training_ref import planned, sides
from xorbench.xor.training.trace import Traced

CASE = "cpu-loader-b128-pin0-drop1-w0-s0"
OTHER = "cpu-loader-b128-pin0-drop0-w0-s0"


def floats(*values: float, kind: str = "new parameter", name: str = "w") -> TraceEvent:
    """A float32 tensor of these values as in a trace."""
    data = struct.pack(f"<{len(values)}f", *values).hex()
    more = More(shape=[len(values)], dtype="float32", hex=data)
    return TraceEvent(kind, name, data[:16], more)


def compared(a: TraceEvent, b: TraceEvent) -> Difference:
    """The difference of two tensors with values."""
    difference = compare(a, b)
    assert difference is not None
    return difference


# References to trainings


@pytest.mark.parametrize(
    "case",
    [Case(), Case("cuda:1", batch_size=7, pin_memory=True), Case(non_blocking=True, seed=12)],
    ids=lambda case: case.id,
)
@pytest.mark.parametrize(
    "config",
    [ProcessConfig(), ProcessConfig(threads=None), ProcessConfig(False, 2)],
    ids=lambda s: s.id,
)
def test_an_id_can_be_parsed(case: Case, config: ProcessConfig) -> None:
    """Case and config are equal, with non-default fields and the index of a device."""
    assert read_variant("A", variant_id(case, config)) == (case, config)


@pytest.mark.parametrize("axis", CASE_AXES, ids=lambda axis: axis.name)
def test_every_setting_of_a_case_can_be_parsed(axis: Axis) -> None:
    """Default values and different values of each axis are parsed."""
    values = {*axis.default, *OTHER_VALUES.get(axis.name, (not axis.neutral,))}
    for value in values:
        case = replace(Case(), **{axis.name: value})
        assert read_variant("A", case.id) == (case, ProcessConfig())


OTHER_VALUES = {
    "device": ("cpu", "cuda:1"), "engine": tuple(ENGINES), "batch_size": (1, 10_000_000),
    "num_workers": (0, 64), "seed": (7,), "optimizer": OPTIMIZERS, "dtype": DTYPES,
    "prefetch_factor": (None, 1, 1_024), "multiprocessing_context": START_METHODS,
}  # fmt: skip


@pytest.mark.parametrize(
    "env",
    [("A=1 2",), ("A=-DX+y",), ("A=", "B=x y"), ("A=x=y", "B=2")],
    ids=" ".join,
)
def test_variables_can_be_parsed_from_the_id(env: tuple[str, ...]) -> None:
    """Values may contain spaces and signs, next to a second setting."""
    config = ProcessConfig(threads=2, env=env)
    assert read_variant("A", variant_id(Case(), config)) == (Case(), config)


@pytest.mark.parametrize("line", ["A=x B=y", "A=1+threads=2"])
def test_a_variable_with_an_ambiguous_id_is_refused(line: str) -> None:
    """It would be parsed as two settings."""
    with pytest.raises(BadOption, match=r"^--env: A: a value cannot contain"):
        read_env("--env", line)


def test_the_name_of_a_side_has_the_path_of_an_interpreter(tmp_path: Path) -> None:
    """An id has only its label; the name of a side has its path, quoted for a shell."""
    config = ProcessConfig(python=f"here={sys.executable}", env=("A=1", "B=2"))
    path = tmp_path / "a.trace"
    written(path, config=config)
    name = sides(tmp_path, "A", str(path))[0].name
    (word, *_) = shlex.split(name)
    assert read_variant("A", word) == (Case(), config)


@pytest.mark.parametrize(
    "text", ["", "cpu", f"{CASE}-colour=3", f"{CASE}@", f"{CASE}@threads", f"{CASE}@threads=0"]
)
def test_an_invalid_reference_is_refused(text: str) -> None:
    """The error is one line that names the option."""
    with pytest.raises(BadOption, match=r"^CASE"):
        read_variant("CASE", text)


# Comparing


def test_the_distance_counts_floats() -> None:
    """It counts the floats between two values, also across zero."""
    before, after = math.nextafter(1, 0), 1 + 2**-23
    assert compared(floats(1 - 2**-24), floats(after)).largest_ulps == 2
    assert compared(floats(-(2**-149)), floats(2**-149)).largest_ulps == 2
    assert compared(floats(0.0), floats(-0.0)).first is not None
    assert before < 1


def test_the_first_element_is_shown_with_both_bit_patterns() -> None:
    """The difference has index, values, bits, distance, and the number of differing elements."""
    result = compared(floats(1, 2, 3), floats(1, 2 + 2**-22, -3))
    assert result.first is not None
    assert (result.first.index, result.first.ulps, result.differing) == ([1], 1, 2)
    assert (result.first.a_bits, result.first.b_bits) == ("0x40000000", "0x40000001")
    assert result.largest_ulps == 2 * 0x40400000


def test_nan_has_no_distance() -> None:
    """NaN differs without a distance."""
    result = compared(floats(math.nan), floats(1))
    assert result.first is not None
    assert (result.first.ulps, result.largest_ulps, result.differing) == (None, None, 1)


def test_tensors_of_different_types_are_not_compared_by_element() -> None:
    """The details are their types and shapes, even with equal bytes."""
    tensor = floats(1, 2)
    for dtype, shape, details in (
        ("int32", [2], [("types", "float32 and int32")]),
        ("int64", [2], [("types", "float32 and int64")]),
        ("float32", [1, 2], [("shapes", "[2] and [1, 2]")]),
        ("int64", [1], [("types", "float32 and int64"), ("shapes", "[2] and [1]")]),
    ):
        more = msgspec.structs.replace(tensor.more, dtype=dtype, shape=shape)
        result = compared(tensor, msgspec.structs.replace(tensor, more=more))
        assert (result.kinds, result.first) == (details, None)
        assert element_details(result) == details


@pytest.mark.parametrize("change", [{"dtype": "float31"}, {"hex": "0"}, {"hex": "00"}])
def test_values_that_are_none_of_their_type_are_damage(change: dict[str, str]) -> None:
    """An unknown type, no hexadecimal, too few bytes: the tensor is named."""
    one = floats(1, 2)
    odd = msgspec.structs.replace(one, more=msgspec.structs.replace(one.more, **change))
    with pytest.raises(BadFile, match=r"a trace is damaged: the values of w do not fit float3"):
        compare(odd, odd)


def step(number: int, *events: TraceEvent) -> TraceStep:
    """A step of these events."""
    return TraceStep(step=number, at_s=0, took_s=0, recorder_s=0, events=list(events))


def epoch(*steps: str) -> EpochTrace:
    """A traced epoch with tensors p and q per step; a letter stands for a digest."""
    lines = [
        step(
            number,
            *(
                TraceEvent("data", name, digest)
                for name, digest in zip("pq", digests, strict=False)
            ),
        )
        for number, digests in enumerate(steps)
    ]
    return EpochTrace(3, None, "", lines)


def test_the_first_place_is_the_earliest_tensor_of_the_earliest_step() -> None:
    """Tensors are in the order of the computation."""
    result = first_place(epoch("ab", "cd"), epoch("ab", "xy"))
    assert result is not None
    assert result[0] == TracePlace(3, 1, "the p")


def test_a_step_that_one_side_lacks_is_a_place() -> None:
    """If all common steps are equal, the first missing one differs."""
    result = first_place(epoch("a"), epoch("a", "b"))
    assert result is not None
    assert result[0] == TracePlace(3, 1, None)


def test_epoch_digests_are_compared_for_common_epochs() -> None:
    """A trace of a few epochs can be compared with a whole run."""
    assert first_epoch({4: "a", 5: "b"}, {0: "z", 4: "a", 5: "c"}) == 5
    assert first_epoch({4: "a"}, {5: "c"}) is None


def test_growth_counts_only_weights() -> None:
    """Gradients and activations are excluded."""
    events_a = [floats(1, kind="output"), floats(1, kind="gradient"), floats(1, 2)]
    events_b = [floats(9, kind="output"), floats(9, kind="gradient"), floats(1, 2 + 2**-22)]
    result = growth(
        EpochTrace(0, None, "", [step(2, *events_a)]), EpochTrace(0, None, "", [step(2, *events_b)])
    )
    assert [(g.step, g.differing, g.elements, g.largest_ulps) for g in result] == [(2, 1, 2, 1)]


def test_another_machine_is_named() -> None:
    """The first thing that is not the same, with both values; nothing where all is."""
    here = {"torch_version": "2", "cpu": "Intel Xeon", "cpu_capability": "AVX2"}
    assert machine_difference(here, here) == ""
    assert "cpu AMD EPYC, this machine" in machine_difference({**here, "cpu": "AMD EPYC"}, here)
    assert "cpu_capability AVX512" in machine_difference({**here, "cpu_capability": "AVX512"}, here)


# The file


def written(path: Path, *, valued: range = range(0), config: ProcessConfig | None = None) -> Path:
    """A trace of two epochs, written by the real recorder."""
    traced = Traced(Case(), Recipe(epochs=2))
    training = TracedTraining(
        xorbench_version="0",
        case=Case(),
        config=config or ProcessConfig(),
        recipe=Recipe(epochs=2),
        faults=[],
        inputs_sha256=traced.training.inputs_sha256(),
    )
    epochs = {
        number: msgspec.convert({"epoch": number, **asdict(traced.record(valued))}, EpochTrace)
        for number in range(2)
    }
    traces.write(path, CaseTrace(traces.case_head(training, {}), training, epochs))
    return path


def test_a_step_of_a_trace_is_at_most_5_kb(tmp_path: Path) -> None:
    """This is at batch 128 with all digests; the first step also has the names."""
    lines = written(tmp_path / "a.trace").read_bytes().splitlines()
    assert len(lines) == 1 + 2 * (19 + 1)
    assert max(map(len, lines[1:])) <= 5_000


def test_a_trace_is_equal_after_reading(tmp_path: Path) -> None:
    """This includes values."""
    path = written(tmp_path / "a.trace", valued=range(4, 5))
    first = traces.load_case(path)
    traces.write(tmp_path / "b.trace", first)
    assert path.read_bytes() == (tmp_path / "b.trace").read_bytes()
    kept = [step.step for step in first.epochs[1].steps if step.events[-1].more.hex]
    assert kept == [4]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda text: text.replace('"schema_version":3', '"schema_version":9'), "version 9"),
        (lambda text: text[:-200], "epoch 1 has no end"),
        (lambda _text: "", ":1: damaged"),
        (lambda text: text.replace('"events":', '"events":"', 1), ":2: damaged"),
        (lambda text: text.replace('"step":1,', '"step":0,', 1), ":3: damaged: step 0 is not new"),
    ],
    ids=["newer", "cut short", "empty", "no JSON", "twice"],
)
def test_a_damaged_trace_is_reported_with_its_line(damage, what, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The error has file and line."""
    path = written(tmp_path / "a.trace")
    path.write_text(damage(path.read_text()))
    with pytest.raises(BadFile, match=what):
        traces.load_case(path)


def test_different_inputs_are_reported_before_the_epoch_digests(tmp_path: Path) -> None:
    """The report of two traces with different points starts with them."""
    file_a = written(tmp_path / "a.trace")
    trace = traces.load_case(file_a)
    training = msgspec.structs.replace(trace.training, inputs_sha256="f" * 64)
    file_b = tmp_path / "b.trace"
    head = msgspec.structs.replace(trace.head, training=training)
    traces.write(file_b, replace(trace, head=head))
    result, code = diff(str(file_a), str(file_b), tmp_path)
    lines = report.text(result).splitlines()
    assert code == 1
    assert lines[2].startswith("inputs        DIFFER")
    assert lines[3] == "epoch digests equal over 2 epochs"


def test_a_difference_that_reaches_no_epoch_digest_is_found_in_traces(tmp_path: Path) -> None:
    """A gradient with different bits that does not reach a weight is a difference."""
    file_a = written(tmp_path / "a.trace")
    trace = traces.load_case(file_a)
    steps = list(trace.epochs[1].steps)
    events = list(steps[3].events)
    index = [(event.kind, event.identity) for event in events].index(("gradient", "o0.g0.p1"))
    events[index] = msgspec.structs.replace(events[index], digest="0" * 16)
    steps[3] = msgspec.structs.replace(steps[3], events=events)
    epochs = {**trace.epochs, 1: replace(trace.epochs[1], steps=steps)}
    file_b = tmp_path / "b.trace"
    traces.write(file_b, replace(trace, epochs=epochs))
    result, code = diff(str(file_a), str(file_b), tmp_path)
    assert (code, result.epoch, result.place) == (1, None, TracePlace(1, 3, "gradient layer1.bias"))
    assert "epoch digests equal over 2 epochs: the difference did not" in report.text(result)


# Real runs, real replays


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real run whose second process has a damaged weight and batch."""
    injections = (
        f"flip-weight:epoch=2,step=3,element=2,bit=20,process=1,cases={CASE}",
        f"skip-batch:epoch=1,step=4,process=1,cases={OTHER}",
    )
    given = [word for inject in injections for word in ("--inject", inject)]

    def make(folder: Path) -> None:
        done = run_in(folder, "run", "--quick", "--epochs", "4", *given)
        assert done.returncode == 1, done.stderr

    return once(tmp_path_factory, "diff", make)


@pytest.fixture(scope="module")
def flipped(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Completed:
    """`diff` of the two processes of the case with the flipped bit."""
    words = ("diff", f"latest:{CASE}", f"latest:{CASE}#p1", "--json")
    return reported(tmp_path_factory, "flipped", lambda _folder: run_in(runs, *words)).done


def test_a_flipped_bit_is_found_between_two_processes(flipped: Completed) -> None:
    """Epoch, step, tensor, element and bit are the injected ones, and the growth is shown."""
    result = json.loads(flipped.stdout)
    assert flipped.returncode == result["exit_code"] == 1
    assert result["place"] == {"epoch": 2, "step": 3, "tensor": "parameter layer1.weight"}
    element = result["difference"]["first"]
    assert (element["index"], result["difference"]["differing"]) == ([1, 0], 1)
    assert int(element["a_bits"], 16) ^ int(element["b_bits"], 16) == 1 << 20
    assert [row["step"] for row in result["growth"]] == [3, 4, 5, 6, 7, 8]
    assert result["growth"][0]["differing"] == 1
    assert result["growth"][1]["differing"] > 1


def test_a_replay_shows_that_both_sides_are_reproducible(flipped: Completed) -> None:
    """The report states it, to exclude a transient fault."""
    assert (
        json.loads(flipped.stdout)["replays"]
        == "both sides reproduce their epoch digests up to epoch 2"
    )


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_digest_that_no_replay_reproduces_is_transient(
    runs: Path, tmp_path: Path, epoch: int
) -> None:
    """One digest of B's record is altered, like by a transient bit flip.

    In the first epoch the report also names a different processor as a possible cause.
    """
    source = (runs / "results" / "latest").resolve()
    copy = tmp_path / "results" / "runs" / source.name
    shutil.copytree(source, copy)
    with_epochs(copy, lambda line: {"digest": "0" * 64} if line["epoch"] == epoch else {})
    result, code = diff(f"{source}:{CASE}", f"{copy}:{CASE}", tmp_path / "results")
    assert code == 1
    text = f"transient on B in epoch {epoch}: the record has 0000000000000000"
    assert result.transient.startswith(text)
    assert "two replays are identical" in result.transient
    assert (kernels.HINT in result.transient) == (epoch == 0)


def test_a_side_of_a_different_processor_is_not_retrained(runs: Path, tmp_path: Path) -> None:
    """The report gives the reason and the hint about MKL."""
    source = (runs / "results" / "latest").resolve()
    copy = tmp_path / "results" / "runs" / source.name
    shutil.copytree(source, copy)
    info = json.loads((copy / "run.json").read_bytes())
    for process in info["processes"]:
        process["machine"]["cpu_capability"] = "another"
    (copy / "run.json").write_text(json.dumps(info))
    result, _ = diff(f"{copy}:{CASE}", f"{copy}:{CASE}#p1", tmp_path / "results")
    assert result.replays.startswith("skipped: A was recorded with cpu_capability another")
    assert result.replays.endswith(kernels.HINT)


def test_two_runs_are_compared_training_by_training(runs: Path) -> None:
    """A run compared with itself has no difference, and nothing is trained."""
    result, code = diff("latest", "latest", runs / "results")
    assert (code, result.notes, result.epoch) == (0, ["0 of 2 common trainings differ"], None)


def test_a_training_of_a_run_can_be_traced_with_its_faults(
    runs: Path, inside: Xorbench, tmp_path: Path
) -> None:
    """The traced digests equal the recorded ones, including the injected fault.

    The trace does not contain the path of this machine's Python.
    """
    latest = (runs / "results" / "latest").resolve()
    done = inside(
        *("trace", f"{latest}:{OTHER}#p1", "--epoch", "1-2", "--dump-steps", "4", "-o", "a.trace")
    )
    assert (done.returncode, done.stdout[:17]) == (0, "a.trace: 2 epochs"), done.stderr
    assert str(Path(sys.executable).parent) not in (tmp_path / "a.trace").read_text()


def test_the_command_that_records_values_names_existing_steps() -> None:
    """Near the end of an epoch of 19 steps, it ends with the last step."""
    side = planned("A", CASE, Recipe(), ())
    place = TracePlace(epoch=3, step=16, tensor="w")
    commands = trace_commands((side, side), 3, place)
    assert all(" --dump-steps 16-18 " in line for line in commands)


TRACED = ["trace", "-o", "x"]
DUMPED = [*TRACED, CASE, "--dump-steps"]
PROGRAM = ["--", sys.executable, "-c", "raise SystemExit"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["diff", "nowhere", "latest"], "A: no run 'nowhere'"),
        (["diff", f"latest:{CASE}", "latest:cpu"], "B: 'latest:cpu': the run has no such training"),
        (["trace", "cpu", "-o", "x"], "CASE: invalid case 'cpu'"),
        (["trace", CASE, "-o", "/nowhere/x"], "--output: cannot write"),
        (["trace", CASE, "-o", "x", "--epoch", "100"], "--epoch: epoch 100 of a training of 100"),
        ([*DUMPED, "15-19"], "--dump-steps: step 19 of an epoch of 19 steps"),
        ([*DUMPED, "1,3"], "--dump-steps: must be one range of steps, got '1,3'"),
        ([*DUMPED, ""], "--dump-steps: empty value"),
        ([*TRACED, "--dump-steps", "1", *PROGRAM], "--dump-steps: cannot be used with a command"),
        ([*TRACED, "--detail", "1,3", *PROGRAM], "--detail: must be one range of steps"),
        ([*TRACED, "--detail", "4-5", "--steps", "5", *PROGRAM], "--detail: step 5 of --steps 5"),
        ([*TRACED, "--with-source", *PROGRAM], "--with-source: needs --detail STEPS"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], what: str, runs: Path) -> None:
    """The line names the option; the exit code is 2 and no trace is written."""
    done = call_in(runs, *arguments)
    assert done.returncode == 2
    assert not (runs / "x").exists()
    assert what in done.stderr
    assert "Traceback" not in done.stderr
