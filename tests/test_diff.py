"""Where two trainings diverge: from records, from traces, and by training them again."""

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
from xorbench.runtime.start import other_machine
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
    """A float32 tensor of these values, as a trace keeps it."""
    data = struct.pack(f"<{len(values)}f", *values).hex()
    more = More(shape=[len(values)], dtype="float32", hex=data)
    return TraceEvent(kind, name, data[:16], more)


def compared(a: TraceEvent, b: TraceEvent) -> Difference:
    """How two tensors differ, both of which are kept."""
    found = compare(a, b)
    assert found is not None
    return found


# Reading what is named


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
def test_an_id_is_read_back_into_what_it_names(case: Case, config: ProcessConfig) -> None:
    """Case and setting, with fields that are not the default, and an index of a device."""
    assert read_variant("A", variant_id(case, config)) == (case, config)


@pytest.mark.parametrize("axis", CASE_AXES, ids=lambda axis: axis.name)
def test_every_config_of_a_case_is_read_back(axis: Axis) -> None:
    """Each value of the defaults, and each other value that a row knows."""
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
def test_variables_are_read_back_from_the_id(env: tuple[str, ...]) -> None:
    """With spaces and signs in their values, beside another setting."""
    config = ProcessConfig(threads=2, env=env)
    assert read_variant("A", variant_id(Case(), config)) == (Case(), config)


@pytest.mark.parametrize("line", ["A=x B=y", "A=1+threads=2"])
def test_a_variable_whose_id_could_not_be_read_back_is_refused(line: str) -> None:
    """It would read as two settings."""
    with pytest.raises(BadOption, match=r"^--env: A: a value cannot hold"):
        read_env("--env", line)


def test_an_interpreter_is_spelled_out_where_it_must_be_read_back(tmp_path: Path) -> None:
    """An id shows its label; the name of a side, of a trace too, its path, quoted for a shell."""
    config = ProcessConfig(python=f"here={sys.executable}", env=("A=1", "B=2"))
    path = tmp_path / "a.trace"
    written(path, config=config)
    name = sides(tmp_path, "A", str(path))[0].name
    (word, *_) = shlex.split(name)
    assert read_variant("A", word) == (Case(), config)


@pytest.mark.parametrize(
    "text", ["", "cpu", f"{CASE}-colour=3", f"{CASE}@", f"{CASE}@threads", f"{CASE}@threads=0"]
)
def test_what_names_no_training_is_said(text: str) -> None:
    """One line that names the option."""
    with pytest.raises(BadOption, match=r"^CASE"):
        read_variant("CASE", text)


# Comparing


def test_the_distance_is_counted_in_numbers_between() -> None:
    """From the float before 1 to the one after it: two steps down, one up, across zero too."""
    before, after = math.nextafter(1, 0), 1 + 2**-23
    assert compared(floats(1 - 2**-24), floats(after)).largest_ulps == 2
    assert compared(floats(-(2**-149)), floats(2**-149)).largest_ulps == 2
    assert compared(floats(0.0), floats(-0.0)).first is not None
    assert before < 1


def test_the_first_element_is_shown_with_both_bit_patterns() -> None:
    """Index, values, bits, distance; and how many differ."""
    found = compared(floats(1, 2, 3), floats(1, 2 + 2**-22, -3))
    assert found.first is not None
    assert (found.first.index, found.first.ulps, found.differing) == ([1], 1, 2)
    assert (found.first.a_bits, found.first.b_bits) == ("0x40000000", "0x40000001")
    assert found.largest_ulps == 2 * 0x40400000


def test_nan_has_no_distance() -> None:
    """What is not a number is different, and not far or near."""
    found = compared(floats(math.nan), floats(1))
    assert found.first is not None
    assert (found.first.ulps, found.largest_ulps, found.differing) == (None, None, 1)


def test_tensors_of_two_kinds_are_not_compared_by_element() -> None:
    """Their types, their shapes, or both are the details; equal bytes make no two kinds equal."""
    one = floats(1, 2)
    for dtype, shape, details in (
        ("int32", [2], [("types", "float32 and int32")]),
        ("int64", [2], [("types", "float32 and int64")]),
        ("float32", [1, 2], [("shapes", "[2] and [1, 2]")]),
        ("int64", [1], [("types", "float32 and int64"), ("shapes", "[2] and [1]")]),
    ):
        more = msgspec.structs.replace(one.more, dtype=dtype, shape=shape)
        found = compared(one, msgspec.structs.replace(one, more=more))
        assert (found.kinds, found.first) == (details, None)
        assert element_details(found) == details


@pytest.mark.parametrize("change", [{"dtype": "float31"}, {"hex": "0"}, {"hex": "00"}])
def test_values_that_are_none_of_their_type_are_damage(change: dict[str, str]) -> None:
    """An unknown type, no hexadecimal, too few bytes: the tensor is named."""
    one = floats(1, 2)
    odd = msgspec.structs.replace(one, more=msgspec.structs.replace(one.more, **change))
    with pytest.raises(BadFile, match=r"a trace is damaged: the values of w are no float3"):
        compare(odd, odd)


def step(number: int, *events: TraceEvent) -> TraceStep:
    """A step of these events."""
    return TraceStep(step=number, at_s=0, took_s=0, recorder_s=0, events=list(events))


def epoch(*steps: str) -> EpochTrace:
    """A traced epoch whose steps have tensors p and q, with these digests of a letter each."""
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


def test_the_first_place_is_the_earliest_step_then_the_earliest_tensor() -> None:
    """Tensors are in the order of the computation."""
    found = first_place(epoch("ab", "cd"), epoch("ab", "xy"))
    assert found is not None
    assert found[0] == TracePlace(3, 1, "the p")


def test_a_step_that_one_side_lacks_is_a_place() -> None:
    """Where all common steps agree, the first that is missing differs."""
    found = first_place(epoch("a"), epoch("a", "b"))
    assert found is not None
    assert found[0] == TracePlace(3, 1, None)


def test_epoch_digests_are_compared_where_both_have_an_epoch() -> None:
    """A trace of a few epochs can be compared with a whole run."""
    assert first_epoch({4: "a", 5: "b"}, {0: "z", 4: "a", 5: "c"}) == 5
    assert first_epoch({4: "a"}, {5: "c"}) is None


def test_growth_counts_the_weights_alone() -> None:
    """Gradients and activations are not in it."""
    one = [floats(1, kind="output"), floats(1, kind="gradient"), floats(1, 2)]
    other = [floats(9, kind="output"), floats(9, kind="gradient"), floats(1, 2 + 2**-22)]
    found = growth(
        EpochTrace(0, None, "", [step(2, *one)]), EpochTrace(0, None, "", [step(2, *other)])
    )
    assert [(g.step, g.differing, g.elements, g.largest_ulps) for g in found] == [(2, 1, 2, 1)]


def test_another_machine_is_named() -> None:
    """The first thing that is not the same, with both values; nothing where all is."""
    here = {"torch_version": "2", "cpu": "Intel Xeon", "cpu_capability": "AVX2"}
    assert other_machine(here, here) == ""
    assert "cpu AMD EPYC, here" in other_machine({**here, "cpu": "AMD EPYC"}, here)
    assert "cpu_capability AVX512" in other_machine({**here, "cpu_capability": "AVX512"}, here)


# The file


def written(path: Path, *, valued: range = range(0), config: ProcessConfig | None = None) -> Path:
    """A trace of two epochs, written by the real tracer."""
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
    """At batch 128, with every tensor's digest in every step; the first also names them."""
    lines = written(tmp_path / "a.trace").read_bytes().splitlines()
    assert len(lines) == 1 + 2 * (19 + 1)
    assert max(map(len, lines[1:])) <= 5_000


def test_a_trace_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Values included."""
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
def test_a_damaged_trace_is_said_with_its_line(damage, what, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """File and line, never a traceback."""
    path = written(tmp_path / "a.trace")
    path.write_text(damage(path.read_text()))
    with pytest.raises(BadFile, match=what):
        traces.load_case(path)


def test_inputs_that_differ_are_said_before_the_epoch_digests(tmp_path: Path) -> None:
    """Of two traces with other points the first thing told is that."""
    one = written(tmp_path / "a.trace")
    trace = traces.load_case(one)
    training = msgspec.structs.replace(trace.training, inputs_sha256="f" * 64)
    other = tmp_path / "b.trace"
    head = msgspec.structs.replace(trace.head, training=training)
    traces.write(other, replace(trace, head=head))
    found, code = diff(str(one), str(other), tmp_path)
    lines = report.text(found).splitlines()
    assert code == 1
    assert lines[2].startswith("inputs        DIFFER")
    assert lines[3] == "epoch digests equal over 2 epochs"


def test_what_no_epoch_digests_shows_is_found_between_traces(tmp_path: Path) -> None:
    """A gradient of other bits, rounded away before it reached a weight: it is a difference."""
    one = written(tmp_path / "a.trace")
    trace = traces.load_case(one)
    steps = list(trace.epochs[1].steps)
    events = list(steps[3].events)
    at = [(event.kind, event.identity) for event in events].index(("gradient", "o0.g0.p1"))
    events[at] = msgspec.structs.replace(events[at], digest="0" * 16)
    steps[3] = msgspec.structs.replace(steps[3], events=events)
    epochs = {**trace.epochs, 1: replace(trace.epochs[1], steps=steps)}
    other = tmp_path / "b.trace"
    traces.write(other, replace(trace, epochs=epochs))
    found, code = diff(str(one), str(other), tmp_path)
    assert (code, found.epoch, found.place) == (1, None, TracePlace(1, 3, "gradient layer1.bias"))
    assert "epoch digests equal over 2 epochs: what differs was absorbed" in report.text(found)


# Real runs, real replays


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real run in whose second process a weight and a batch are damaged."""
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
    """`diff` between the two processes of the case with the flipped bit."""
    words = ("diff", f"latest:{CASE}", f"latest:{CASE}#p1", "--json")
    return reported(tmp_path_factory, "flipped", lambda _folder: run_in(runs, *words)).done


def test_a_flipped_bit_is_found_between_two_processes(flipped: Completed) -> None:
    """Epoch, step, tensor, element and bit as they were injected, and how it grows."""
    found = json.loads(flipped.stdout)
    assert flipped.returncode == found["exit_code"] == 1
    assert found["place"] == {"epoch": 2, "step": 3, "tensor": "parameter layer1.weight"}
    element = found["difference"]["first"]
    assert (element["index"], found["difference"]["differing"]) == ([1, 0], 1)
    assert int(element["a_bits"], 16) ^ int(element["b_bits"], 16) == 1 << 20
    assert [row["step"] for row in found["growth"]] == [3, 4, 5, 6, 7, 8]
    assert found["growth"][0]["differing"] == 1
    assert found["growth"][1]["differing"] > 1


def test_a_replay_proves_that_both_sides_repeat_themselves(flipped: Completed) -> None:
    """It is said, since a transient fault would be another answer."""
    assert (
        json.loads(flipped.stdout)["replays"]
        == "both sides repeat their epoch digests up to epoch 2"
    )


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_epoch_digests_that_no_replay_repeats_was_a_transient(
    runs: Path, tmp_path: Path, epoch: int
) -> None:
    """One digest of B's record is altered, as a flip that came and went would have left it.

    In the first epoch another processor's kernels would have done so too, which is said.
    """
    source = (runs / "results" / "latest").resolve()
    copy = tmp_path / "results" / "runs" / source.name
    shutil.copytree(source, copy)
    with_epochs(copy, lambda line: {"digest": "0" * 64} if line["epoch"] == epoch else {})
    found, code = diff(f"{source}:{CASE}", f"{copy}:{CASE}", tmp_path / "results")
    assert code == 1
    said = f"transient on B in epoch {epoch}: the record has 0000000000000000"
    assert found.transient.startswith(said)
    assert "two replays agree with each other" in found.transient
    assert (kernels.HINT in found.transient) == (epoch == 0)


def test_a_side_of_another_processor_is_not_trained_again(runs: Path, tmp_path: Path) -> None:
    """It is said, with what MKL has to do with it."""
    source = (runs / "results" / "latest").resolve()
    copy = tmp_path / "results" / "runs" / source.name
    shutil.copytree(source, copy)
    info = json.loads((copy / "run.json").read_bytes())
    for process in info["processes"]:
        process["machine"]["cpu_capability"] = "another"
    (copy / "run.json").write_text(json.dumps(info))
    found, _ = diff(f"{copy}:{CASE}", f"{copy}:{CASE}#p1", tmp_path / "results")
    assert found.replays.startswith("not done: A was recorded with cpu_capability another")
    assert found.replays.endswith(kernels.HINT)


def test_two_runs_are_compared_training_by_training(runs: Path) -> None:
    """A run against itself has no difference: exit 0, nothing trained."""
    found, code = diff("latest", "latest", runs / "results")
    assert (code, found.notes, found.epoch) == (0, ["0 of 2 common trainings differ"], None)


def test_a_training_of_a_run_can_be_traced_with_its_faults(
    runs: Path, inside: Xorbench, tmp_path: Path
) -> None:
    """The traced digests are the recorded ones, injected fault and all, from the epochs named.

    Nothing in it says where this machine keeps its Python.
    """
    latest = (runs / "results" / "latest").resolve()
    done = inside(
        *("trace", f"{latest}:{OTHER}#p1", "--epoch", "1-2", "--dump-steps", "4", "-o", "a.trace")
    )
    assert (done.returncode, done.stdout[:17]) == (0, "a.trace: 2 epochs"), done.stderr
    assert str(Path(sys.executable).parent) not in (tmp_path / "a.trace").read_text()


def test_the_command_that_keeps_values_names_steps_that_there_are() -> None:
    """Near the end of an epoch of 19 steps it ends with the last one."""
    side = planned("A", CASE, Recipe(), ())
    place = TracePlace(epoch=3, step=16, tensor="w")
    told = trace_commands((side, side), 3, place)
    assert all(" --dump-steps 16-18 " in line for line in told)


TRACED = ["trace", "-o", "x"]
DUMPED = [*TRACED, CASE, "--dump-steps"]
PROGRAM = ["--", sys.executable, "-c", "raise SystemExit"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["diff", "nowhere", "latest"], "A: no run 'nowhere'"),
        (["diff", f"latest:{CASE}", "latest:cpu"], "B: 'latest:cpu': the run has no such training"),
        (["trace", "cpu", "-o", "x"], "CASE: 'cpu' is no case"),
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
    """Exit 2, the option that is wrong, and no trace."""
    done = call_in(runs, *arguments)
    assert done.returncode == 2
    assert not (runs / "x").exists()
    assert what in done.stderr
    assert "Traceback" not in done.stderr
