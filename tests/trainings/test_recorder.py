"""The recorder: its record of a training, step by step, and that it does not affect the program."""

import ast
import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import once
from torch import nn

import xorbench
from xorbench.programs.command_run import SITE
from xorbench.recorder import listen, walk
from xorbench.recorder.fingerprint import Digester
from xorbench.recorder.options import Options
from xorbench.recorder.sink import MemorySink
from xorbench.records import trace as traces
from xorbench.records.trace import TraceEnd, TraceEvent, TraceFile, TraceStep

HERE = Path(__file__).parent
PROGRAMS = HERE / "recorder_programs.py"
RECORDER = Path(xorbench.__file__).parent / "recorder"
DEADLINE_S = 300
SECRET = "hunter2-of-the-test"
NOT_BY_DEFAULT = {"main", "leave", "long", "adam", "infinite_loss", "sharded"}
FAULTS = ["start", "finish", "states", "inputs", "hyperparameters", "write", "open"]


def by_default() -> list[str]:
    """The programs recorded at the default level: all without arguments."""
    functions = [node for node in ast.parse(PROGRAMS.read_text()).body if _is_program(node)]
    return [function.name for function in functions if function.name not in NOT_BY_DEFAULT]  # type: ignore[attr-defined]


def _is_program(node: ast.stmt) -> bool:
    is_public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    return is_public and not (node.args.args or node.args.kwonlyargs)  # type: ignore[attr-defined]


def run(folder: Path, names: list[str], programs: Path = PROGRAMS, **options: Any) -> None:
    """Run programs with the recorder, and store the end of each."""
    records = folder / "records"
    records.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(SITE),
        "XORBENCH_RECORD": str(records),
        "XORBENCH_RECORD_OPTIONS": json.dumps(options),
        "HOME": "/home/alice-of-the-test",
        "SECRET_TOKEN": SECRET,
    }
    done = subprocess.run(
        [
            *(sys.executable, str(programs), *names, "--", "--data=/home/alice-of-the-test/data"),
            *("/home/alice-of-the-test/", "s3://bucket/data", b"\xff"),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    (folder / "ended.json").write_bytes(done.stdout)


@dataclass
class Recorded:
    """Programs that have run, and their records."""

    folder: Path

    @property
    def ended(self) -> dict[str, tuple[int, int, float]]:
        """Process number, exit code and seconds of each program."""
        ended: dict[str, tuple[int, int, float]] = json.loads(
            (self.folder / "ended.json").read_text()
        )
        return ended

    def traces(self, name: str) -> list[TraceFile]:
        """The records of a program's own process."""
        pid = self.ended[name][0]
        paths = sorted((self.folder / "records").glob(f"*-{pid}.jsonl"))
        return [traces.opened(path) for path in paths]

    def lines(self, name: str) -> list[TraceStep | TraceEnd]:
        """The lines of a program's only record."""
        (trace,) = self.traces(name)
        return list(trace.lines())

    def steps(self, name: str) -> list[TraceStep]:
        """The steps of a program."""
        return [line for line in self.lines(name) if isinstance(line, TraceStep)]

    def end(self, name: str) -> TraceEnd:
        """The end of a program's record."""
        line = self.lines(name)[-1]
        assert isinstance(line, TraceEnd)
        return line

    def output(self, name: str) -> str:
        """The output of a program."""
        return (self.folder / f"{name}.out").read_text()


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The records of every program at the default level."""
    names = by_default()
    return Recorded(once(tmp_path_factory, "recorder", lambda folder: run(folder, names)))


@pytest.fixture(scope="module")
def detail(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Some programs with detailed recording and with the state for resumed trainings."""
    names = ["adam", "infinite_loss", "sharded", "plain"]
    options = {"detail": (0, 100), "values_bytes": 1 << 20, "state": True}
    return Recorded(once(tmp_path_factory, "detail", lambda folder: run(folder, names, **options)))


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two programs at the level that records only times, with a small size limit."""
    options = {"level": "clock", "max_bytes": 1_500}
    names = ["plain", "long"]
    return Recorded(once(tmp_path_factory, "clock", lambda folder: run(folder, names, **options)))


def kinds(step: TraceStep | TraceEnd) -> list[str]:
    """The kinds of a step's events in order, without duplicates."""
    return list(dict.fromkeys(event.kind for event in step.events))


def counted(step: TraceStep, *wanted: str) -> dict[str, int]:
    """The number of events of these kinds in a step."""
    counts = Counter(event.kind for event in step.events)
    return {kind: counts[kind] for kind in wanted}


def of_kind(step: TraceStep | TraceEnd, kind: str) -> list[TraceEvent]:
    """The events of a kind."""
    return [event for event in step.events if event.kind == kind]


def identities(step: TraceStep | TraceEnd, kind: str) -> list[str]:
    """The identities of a kind."""
    return [event.identity for event in of_kind(step, kind)]


# Steps and their events


def test_recording_does_not_change_exit_codes(default: Recorded) -> None:
    """Exit codes and signals are those of the programs."""
    codes = {name: code for name, (_, code, _) in default.ended.items() if code}
    assert codes == {"killed": -signal.SIGKILL, "raises": 1, "exits": 7}


def test_the_recorder_prints_nothing(default: Recorded) -> None:
    """It writes nothing to standard output or error, and causes no warnings."""
    names = [name for name in default.ended if not name.startswith(("fault", "no_fault"))]
    printing = {name for name in names if default.output(name)}
    own = {
        "closes_descriptors",
        "record_replaced",
        "handler_raises",
        "replaced_layer",
    }  # they print their results
    assert printing == {"raises", "compiled_step", *own}  # a traceback, a note of the compiler
    assert "hook" not in default.output("compiled_step")


def test_steps_are_numbered_from_0_and_the_end_counts_them(default: Recorded) -> None:
    """Three steps, and an end without an unfinished step."""
    assert [step.step for step in default.steps("plain")] == [0, 1, 2]
    assert (default.end("plain").steps, default.end("plain").complete) == (3, True)


def test_events_are_in_program_order(default: Recorded) -> None:
    """Generators, parameters and buffers first, then the call, its batch, the loss, the step."""
    assert [kinds(step) for step in default.steps("plain")[1:]] == 2 * [
        ["generator", "parameter", "buffer", "call", "batch", "loss", "hyperparameters"]
    ]


def test_digests_are_those_of_the_programs_own_tensors(default: Recorded) -> None:
    """Parameters, buffers, batch and loss of each step, and the final parameters."""
    saved = torch.load(default.folder / "plain.pt")
    digester = Digester()

    def digests(tensors: list[torch.Tensor]) -> list[str | None]:
        return list(digester.finish([digester.start(tensor) for tensor in tensors]))

    for step, kept in zip(default.steps("plain"), saved["steps"], strict=True):
        held = [*of_kind(step, "parameter"), *of_kind(step, "buffer")]
        assert Counter(event.digest for event in held) == Counter(digests(kept["before"]))
        assert [event.digest for event in of_kind(step, "batch")] == digests([kept["batch"]])
        assert [event.digest for event in of_kind(step, "loss")] == digests([kept["loss"]])
    final = Counter(event.digest for event in default.end("plain").final)
    assert final == Counter(digests(saved["final"]))


def test_a_change_after_the_step_is_in_the_next_record(default: Recorded) -> None:
    """A parameter clamped after the optimizer's step is recorded with its clamped value."""
    weight = torch.load(default.folder / "changed_between.pt")
    digester = Digester()
    (digest,) = digester.finish([digester.start(weight)])
    final = {event.identity: event.digest for event in default.end("changed_between").final}
    assert final["o0.g0.p0"] == digest


def test_names_shapes_and_types_are_recorded_once(default: Recorded) -> None:
    """A parameter is identified by optimizer, group and position; its name is only a label."""
    first, *following = default.steps("plain")
    assert first.names["o0.g0.p0"] == ("0.weight", [4, 3], "float32")
    assert first.names["m0.1.running_mean"] == ("1.running_mean", [4], "float32")
    assert all(step.names == {} for step in following)


def test_hyperparameters_are_recorded_when_they_change(default: Recorded) -> None:
    """In the first step, and in the third, which has a different learning rate."""
    rates = [
        [group["lr"] for group in step.hyperparameters.get("o0", [])]
        for step in default.steps("plain")
    ]
    assert rates == [[0.1], [], [0.05]]
    digests = [of_kind(step, "hyperparameters")[0].digest for step in default.steps("plain")]
    assert digests[0] == digests[1] != digests[2]


def test_values_without_a_json_number_are_readable(default: Recorded) -> None:
    """Infinities, NumPy's numbers, tensors and mappings in hyperparameters."""
    first, second = default.steps("plain_values")[0].hyperparameters["o0"]
    assert (first["lr"], first["limit"]) == (0.5, "inf")
    assert (second["lr"], second["more"]) == (0.25, {"a": ["nan"]})


def test_generators_are_recorded_at_the_start_of_each_step(default: Recorded) -> None:
    """A random draw from Python's, NumPy's or PyTorch's generator shows in its step."""
    states = [
        {event.identity: event.digest for event in of_kind(step, "generator")}
        for step in default.steps("generators")
    ]
    advanced = [
        {name for name in now if now[name] != before[name]} for before, now in pairwise(states)
    ]
    assert advanced == [{"python"}, {"numpy"}, {"torch cpu"}]


def test_a_replaced_numpy_generator_is_recorded(default: Recorded) -> None:
    """NumPy's global generator may be of a different kind; the record is complete."""
    step = default.steps("own_generator")[0]
    assert identities(step, "generator") == ["python", "numpy", "torch cpu"]
    assert step.errors == []


# Calls, batches, losses


def test_an_output_of_an_earlier_call_is_not_a_batch(default: Recorded) -> None:
    """It is an input that names the call: itself, detached, or a part of it."""
    step = default.steps("chained_calls")[1]
    assert identities(step, "batch") == ["c0[0]"]
    assert [(event.identity, event.more.of) for event in of_kind(step, "input")] == [
        ("c1[0]", "c0"),
        ("c2[0]", "c0"),
        ("c3[0]", "c0"),
    ]
    assert identities(step, "loss") == ["l0", "l1", "l2"]


def test_a_loss_and_a_frozen_model_are_context(default: Recorded) -> None:
    """A call of a module without trainable parameters is not a training call and has no batch."""
    step = default.steps("loss_module")[1]
    assert identities(step, "call") == ["c0"]
    assert [event.more.name for event in of_kind(step, "context")] == ["MSELoss"]
    assert identities(step, "batch") == ["c0[0]"]
    frozen = default.steps("frozen_whole")[0]
    assert [event.more.name for event in of_kind(frozen, "call")] == ["Linear"]


def test_evaluation_is_context(default: Recorded) -> None:
    """It is recorded within a step, not before the first one, and has neither step nor batch."""
    first, second = default.steps("evaluation")
    assert counted(first, "call", "context", "batch") == {"call": 1, "context": 0, "batch": 1}
    assert counted(second, "call", "context", "batch") == {"call": 1, "context": 1, "batch": 1}
    assert not default.traces("never_steps")


def test_inputs_are_identified_by_their_path(default: Recorded) -> None:
    """Data classes, named tuples, arrays, mappings, keywords and plain values; None is skipped."""
    (step,) = default.steps("inputs")
    assert identities(step, "batch") == [
        *("c0[0].ids", "c0[0].scale", "c0[1].left", "c0[1].right", "c0[2]"),
        *("c0.flag", "c0.mask.a[0]", "c0.mask.type 1", "c0.name", "c0.x"),
    ]
    assert all(event.digest for event in of_kind(step, "batch"))


def test_a_missing_digest_has_a_reason(default: Recorded) -> None:
    """Meta and nested tensors, sets, slots and arrays of objects; a sparse tensor has a digest."""
    (step,) = default.steps("unreadable")
    reasons = {event.identity: event.more.not_recorded for event in of_kind(step, "batch")}
    assert reasons == {
        "c0[0]": "on the meta device",
        "c0[1]": "",
        "c0[2]": "NestedTensor",
        "c0[3]": "Slots",
        "c0[4]": "set",
        "c0[5]": "ndarray of objects",
        "c0.x": "",
    }
    assert step.errors == []


def test_a_batch_of_one_element_with_a_stride_is_recorded(default: Recorded) -> None:
    """The stride of a single element may have any value."""
    (step,) = default.steps("strided_element")
    assert [event.more.not_recorded for event in of_kind(step, "batch")] == [""]


def test_the_number_of_recorded_input_values_is_limited(default: Recorded) -> None:
    """For a list of 100,000 numbers, and for a list that contains itself."""
    (step,) = default.steps("wide")
    counts = Counter(event.identity.partition("[")[0] for event in of_kind(step, "batch"))
    assert walk.MOST / 2 < counts["c0"] <= walk.MOST
    assert sum(counts.values()) <= 2 * walk.MOST + 4
    assert step.events_left_out == 0


def test_recomputation_is_not_a_call(default: Recorded) -> None:
    """Activation checkpointing has two calls per step, one of them in the reentrant variant."""
    plain, reentrant = default.steps("checkpointing")
    expected = {"call": 2, "context": 0, "loss": 1, "batch": 1}
    assert counted(plain, "call", "context", "loss", "batch") == expected
    expected = {"call": 1, "context": 0, "loss": 1, "batch": 0}
    assert counted(reentrant, "call", "context", "loss", "batch") == expected


def test_after_a_call_that_raises_recording_continues(default: Recorded) -> None:
    """The next call is outermost again; the first step has no call that reaches no loss."""
    calls = [identities(step, "call") for step in default.steps("raises_within")]
    assert calls == [["c0"], ["c0", "c1"]]


def test_a_functional_model_has_no_batch(default: Recorded) -> None:
    """Its parameters, loss and steps are recorded."""
    for step in default.steps("functional"):
        assert kinds(step) == ["generator", "parameter", "loss", "hyperparameters"] or (
            kinds(step) == ["generator", "loss", "parameter", "hyperparameters"]
        )


# Optimizers


def test_two_optimizers_make_two_steps_per_iteration(default: Recorded) -> None:
    """Each step has the hyperparameters of its optimizer, and the parameters of both."""
    steps = default.steps("two_optimizers")
    assert [identities(step, "hyperparameters") for step in steps] == [["o0"], ["o1"]] * 2
    owners = {identity[:2] for identity in identities(steps[3], "parameter")}
    assert owners == {"o0", "o1"}


def test_accumulation_is_one_step_with_two_batches(default: Recorded) -> None:
    """One step has two calls, two batches and two losses."""
    for step in default.steps("accumulation"):
        assert counted(step, "call", "batch", "loss", "hyperparameters") == {
            "call": 2,
            "batch": 2,
            "loss": 2,
            "hyperparameters": 1,
        }


def test_a_closure_runs_within_its_step(default: Recorded) -> None:
    """LBFGS: the calls follow the start of the optimizer's step."""
    steps = default.steps("lbfgs")
    assert len(steps) == 2
    assert kinds(steps[1])[-4:] == ["hyperparameters", "call", "batch", "loss"]


def test_a_step_skipped_by_the_scaler_is_not_recorded(default: Recorded) -> None:
    """The scaler skips one of three; its batch belongs to the next step."""
    steps = default.steps("grad_scaler")
    assert [counted(step, "batch")["batch"] for step in steps] == [1, 2]


def test_tied_and_frozen_parameters_are_recorded_once(default: Recorded) -> None:
    """A shared weight has one identity; one in no optimizer is identified by module and name."""
    step = default.steps("tied_and_frozen")[1]
    parameters = identities(step, "parameter")
    assert len(parameters) == len(set(parameters))
    frozen = {"m0.frozen.weight", "m0.frozen.bias"}
    assert {"o0.g0.p0", "o0.g0.p1", *frozen, "m0.last.bias"} == set(parameters)


def test_lazy_parameters_are_recorded_once_they_have_a_shape(default: Recorded) -> None:
    """Before the first call the reason is that they are not initialized."""
    first, second = default.steps("lazy")
    assert {event.more.not_recorded for event in of_kind(first, "parameter")[:2]} == {
        "not initialized yet"
    }
    assert all(event.digest for event in of_kind(second, "parameter"))
    assert (first.errors, second.errors) == ([], [])
    assert second.names["o0.g0.p0"] == ("0.weight", [2, 3], "float32")


# Compilers and tracers


@pytest.mark.parametrize("name", ["module_compile", "compiled"])
def test_calls_of_a_compiled_model_are_recorded(default: Recorded, name: str) -> None:
    """`torch.compile` and `Module.compile`: each step has a call, a batch, and bare names."""
    steps = default.steps(name)
    assert [identities(step, "batch") for step in steps] == [["c0[0]"]] * 2
    assert steps[0].names["o0.g0.p0"][0] == "0.weight"
    assert of_kind(steps[0], "call")[0].more.name == "Sequential"


def test_a_compiled_step_is_recorded_by_its_update(default: Recorded) -> None:
    """No hook is called in it; the step ends where the weights have changed."""
    losses = [len(of_kind(step, "loss")) for step in default.steps("compiled_step")]
    end = default.end("compiled_step")
    assert (losses, end.steps, end.unseen.updates) == ([1, 1], 2, 2)


def test_traced_and_transformed_calls_are_ignored(default: Recorded) -> None:
    """Fake tensors, `grad`, `vmap` and `export` do not change the events of the real training."""
    (step,) = default.steps("transforms")
    assert counted(step, "call", "batch", "loss") == {"call": 1, "batch": 1, "loss": 1}
    real = default.steps("fake")[-1]
    assert counted(real, "call", "batch", "loss") == {"call": 1, "batch": 1, "loss": 1}
    assert [line.errors for line in default.steps("fake")] == [[]] * len(default.steps("fake"))


# Processes and threads


def named_processes(recorded: Recorded) -> list[TraceFile]:
    """The records of processes with a name from `multiprocessing`."""
    heads = [traces.opened(path) for path in (recorded.folder / "records").glob("[0-9]*.jsonl")]
    return [trace for trace in heads if trace.head.process and trace.head.process.name]


def test_a_forked_child_inherits_no_record(default: Recorded) -> None:
    """Its record begins at step 0; a child that does not train has no record."""
    assert [step.step for step in default.steps("forks")] == [0, 1, 2]
    own = default.ended["forks"][0]
    named = {int(trace.path.stem.split("-")[1]) for trace in named_processes(default)}
    known = {pid for pid, _, _ in default.ended.values()} | named
    pids = {int(path.stem.split("-")[1]) for path in (default.folder / "records").glob("[0-9]*")}
    (child,) = pids - known
    assert child > own
    (path,) = (default.folder / "records").glob(f"*-{child}.jsonl")
    (step, end) = traces.opened(path).lines()
    assert isinstance(step, TraceStep)
    assert isinstance(end, TraceEnd)
    assert (step.step, identities(step, "call")) == (0, ["c0"])
    assert step.names["o0.g0.p0"][1] == [1, 3]
    assert {event.identity for event in of_kind(step, "parameter")} == {"o0.g0.p0", "o0.g0.p1"}


def test_a_thread_takes_over_after_another_has_ended(default: Recorded) -> None:
    """Two consecutive threads make one record."""
    steps = default.steps("threads")
    assert [counted(step, "call", "loss") for step in steps] == [{"call": 1, "loss": 1}] * 2


def test_a_killed_process_leaves_its_steps(default: Recorded) -> None:
    """If it is killed in step 3, steps 0 to 2 are readable and there is no end."""
    lines = default.lines("killed")
    assert [line.step for line in lines if isinstance(line, TraceStep)] == [0, 1, 2]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("name", "complete", "pending"), [("raises", False, 1), ("exits", True, 0)]
)
def test_a_program_that_raises_or_exits_has_an_end(
    default: Recorded, name: str, complete: bool, pending: int
) -> None:
    """The end has the events of the unfinished step."""
    end = default.end(name)
    assert (end.steps, end.complete, len(of_kind(end, "loss"))) == (1, complete, pending)


# Faults of the recorder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_recorder_never_reaches_the_program(default: Recorded, fault: str) -> None:
    """If a part of the recorder raises, the program still ends with the same parameters."""
    assert default.output(f"fault_{fault}") == default.output("no_fault") != ""


@pytest.mark.parametrize("fault", ["start", "finish", "states", "inputs", "hyperparameters"])
def test_a_fault_of_the_recorder_is_counted(default: Recorded, fault: str) -> None:
    """Each affected step has the error, and steps are still counted."""
    steps = default.steps(f"fault_{fault}")
    assert [step.step for step in steps] == [0, 1]
    assert all("RuntimeError: injected" in step.errors for step in steps)
    assert default.steps("no_fault")[0].errors == []


@pytest.mark.parametrize("fault", ["start", "finish"])
def test_an_event_with_a_failed_digest_has_the_reason(default: Recorded, fault: str) -> None:
    """Its digest is not recorded; all other events are complete."""
    (step, correct) = (default.steps(name)[1] for name in (f"fault_{fault}", "no_fault"))
    assert [event[:2] for event in map(_plain, step.events)] == [
        event[:2] for event in map(_plain, correct.events)
    ]
    batch = of_kind(step, "batch")[0]
    assert (batch.digest, batch.more.not_recorded) == (None, "RuntimeError: injected")


def _plain(event: TraceEvent) -> tuple[str, str, str | None]:
    return event.kind, event.identity, event.digest


def test_a_record_that_cannot_grow_has_no_partial_line(default: Recorded) -> None:
    """Beyond a limit on file sizes, steps are not recorded, and the end has their number."""
    steps = default.steps("file_size_limit")
    end = default.end("file_size_limit")
    assert 2 <= len(steps) < 22
    assert end.left_out == 22 - len(steps)


def test_a_record_has_a_size_limit(clock: Recorded) -> None:
    """Beyond --max-record, steps are not recorded, and the end has their number."""
    steps, end = clock.steps("long"), clock.end("long")
    assert 0 < len(steps) < 30
    assert end.left_out == 30 - len(steps)
    (trace,) = clock.traces("long")
    assert trace.path.stat().st_size < 1_500 + 1_000  # head and end are always written


def test_calls_without_a_step_take_bounded_memory() -> None:
    """An endless evaluation does not collect references to its outputs."""
    listener = listen.Listener(Options(), MemorySink)
    model = nn.Linear(1, 1).eval()
    for _ in range(3 * listen.MOST_MAKERS):
        listener.enter_call(model, (), gradients=True)
        listener.leave_call(model, {}, torch.zeros(1), outermost=True)
    assert len(listener._makers) <= listen.MOST_MAKERS + 1


def test_a_step_has_a_limit_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events beyond it are counted and not recorded."""
    monkeypatch.setattr(listen, "MOST_EVENTS", 10)
    sink = MemorySink()
    listener = listen.Listener(Options(generators=False), lambda: sink)
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter])
    for _ in range(20):
        listener.shielded(listener.backward, parameter.sum())
    listener.shielded(listener.before_step, optimizer)
    listener.shielded(listener.after_step, optimizer)
    (line,) = sink.lines
    assert (len(line["events"]), line["events_left_out"]) == (10, 12)


# Harm


def test_a_record_is_never_written_into_a_file_of_the_program(default: Recorded) -> None:
    """Files that reuse the record's descriptor keep their 70,000 bytes, also if writing fails."""
    sizes = json.loads(default.output("closes_descriptors"))
    assert sizes == [70_000] * 16
    steps, end = default.steps("closes_descriptors"), default.end("closes_descriptors")
    assert [step.step for step in steps[:6]] == [0, 1, 2, 3, 4, 5]
    assert end.left_out == 26 - len(steps) > 0


def test_a_file_in_place_of_the_record_is_not_changed(default: Recorded) -> None:
    """It keeps its 100 bytes, and no new record, which would have no head, is started."""
    assert default.output("record_replaced").strip() == "100"
    assert default.traces("record_replaced") == []


def test_consecutive_training_threads_make_one_record(default: Recorded) -> None:
    """The main thread, a thread that it waits for, and the main thread again make six steps."""
    assert len(default.steps("waiting_threads")) == 6
    for name in ("waiting_threads", "threads", "idle_thread"):
        unseen = default.end(name).unseen
        assert (unseen.thread_overlaps, unseen.thread_followers) == (0, 0)
    assert len(default.steps("idle_thread")) == 2


def test_threads_that_train_at_the_same_time_are_detected(default: Recorded) -> None:
    """The order of the steps of two concurrent threads is arbitrary."""
    assert default.end("parallel_threads").unseen.thread_overlaps > 0


def test_a_weight_that_outlives_its_optimizer_is_read_at_the_end(default: Recorded) -> None:
    """A tensor in no module that changes after its optimizer was freed."""
    finals = _finals(default.end("outlived"), "parameter")
    assert finals["o0.g0.p0"] == _digest(torch.full((3,), 7.0))


def test_the_recorder_does_not_keep_a_replaced_weight_alive(default: Recorded) -> None:
    """The program replaces a layer after the last step; its old weight is freed."""
    assert default.output("replaced_layer").strip() == "gone"


def test_removed_hooks_are_detected(default: Recorded) -> None:
    """The record states that the program removed the hooks."""
    assert default.end("hooks_cleared").unseen.hooks_removed
    assert not default.end("plain").unseen.hooks_removed


def _finals(end: TraceEnd, kind: str) -> dict[str, str | None]:
    return {e.identity: e.digest for e in end.final if e.kind == f"final {kind}"}


def _digest(tensor: torch.Tensor) -> str:
    digester = Digester()
    (digest,) = digester.finish([digester.start(tensor)])
    return digest


def test_final_weights_include_a_model_unused_for_long(default: Recorded) -> None:
    """Parameter and buffer of a model that was last trained 40 steps ago and was dropped."""
    end = default.end("early_model")
    sevens, eights = torch.full((4, 3), 7.0), torch.full((4,), 8.0)
    assert _finals(end, "parameter")["o0.g0.p0"] == _digest(sevens)
    assert _finals(end, "buffer")["m0.1.running_mean"] == _digest(eights)


def test_the_final_state_of_an_optimizer_is_recorded(default: Recorded) -> None:
    """Each tensor of the state, by parameter and name."""
    saved = torch.load(default.folder / "state_changed.pt")
    states = _finals(default.end("state_changed"), "state")
    assert states["o0.g0.p0.exp_avg"] == _digest(saved["exp_avg"])
    assert len(states) == 3 * 6


def test_parts_of_a_program_that_are_not_compared_are_named(default: Recorded) -> None:
    """Evaluation after the last step, and a tensor in no optimizer; an average is compared."""
    unseen = default.end("unused_parts").unseen
    assert (unseen.evaluations, unseen.models, unseen.tensors) == (2, [], 1)
    plain = default.end("plain").unseen
    assert (plain.evaluations, plain.models, plain.tensors) == (0, [], 0)


def test_a_process_forked_by_multiprocessing_ends_its_record(default: Recorded) -> None:
    """It ends by os._exit, which does not call atexit functions."""
    (child,) = named_processes(default)
    end = child.end()
    assert end is not None
    assert (end.steps, len(_finals(end, "parameter"))) == (2, 6)


def test_an_exception_of_a_signal_handler_reaches_the_program(default: Recorded) -> None:
    """The recorder does not swallow it if it interrupts the recorder."""
    assert default.output("handler_raises").strip() == "caught"


# Levels


def test_the_clock_level_records_only_times(clock: Recorded) -> None:
    """Steps with their times and optimizers, without digests."""
    for step in clock.steps("plain"):
        (event,) = step.events
        assert (event.kind, event.identity, event.digest) == ("clock", "o0", None)
        assert (step.names, step.took_s > 0) == ({}, True)
    assert (clock.end("plain").final, clock.end("plain").steps) == ([], 3)


def test_detail_records_gradients_states_outputs_and_operators(detail: Recorded) -> None:
    """Before and after the optimizer's step, with the line of the program."""
    first, second = detail.steps("adam")
    assert {"operator", "output", "gradient", "new state", "new parameter"} <= set(kinds(first))
    names = {identity.rpartition(".")[2] for identity in identities(second, "state")}
    assert names == {"step", "exp_avg", "exp_avg_sq"}
    lines = {event.more.where for event in of_kind(second, "operator")}
    assert lines
    assert all(re.fullmatch(r"recorder_programs\.py:\d+", line) for line in lines)


def test_detail_keeps_the_bytes_of_tensors(detail: Recorded) -> None:
    """They equal the bytes of the program's batch."""
    (trace,) = detail.traces("plain")
    saved = torch.load(detail.folder / "plain.pt")["steps"][1]["batch"]
    (event,) = of_kind(detail.steps("plain")[1], "batch")
    assert trace.values(event) == saved.numpy().tobytes()


def test_a_loss_that_is_not_finite_leaves_a_readable_record(detail: Recorded) -> None:
    """It has no value, since JSON has no such number, but a digest."""
    (loss,) = of_kind(detail.steps("infinite_loss")[0], "loss")
    assert (loss.more.value, loss.digest is not None) == (None, True)


def test_a_sharded_tensor_is_recorded_as_its_local_shard(detail: Recorded) -> None:
    """Digest, shape and bytes are those of the local shard, read without a collective."""
    (trace,) = detail.traces("sharded")
    (step,) = detail.steps("sharded")
    (event,) = of_kind(step, "gradient")
    assert (event.more.shape, step.errors) == ([2, 3], [])
    assert trace.values(event) == torch.ones(2, 3).numpy().tobytes()


# The head


def test_a_record_contains_no_private_names(default: Recorded) -> None:
    """No host, user, home, absolute path, or secret of the environment."""
    private = [SECRET, "alice", "/home", str(HERE), str(default.folder), "SECRET_TOKEN"]
    private += [name for name in (getpass.getuser(), socket.gethostname()) if len(name) > 4]
    for path in (default.folder / "records").glob("[0-9]*.jsonl"):
        text = path.read_bytes().decode()
        assert [word for word in private if word in text] == []


def test_the_arguments_are_recorded_without_folders(default: Recorded) -> None:
    """A path keeps its last part, a URL is unchanged, and invalid bytes are escaped."""
    (trace,) = default.traces("plain")
    assert trace.head.process is not None
    argv = trace.head.process.argv
    assert argv[0] == "recorder_programs.py"
    assert argv[argv.index("--") + 1 :] == ["--data=data", "~", "s3://bucket/data", r"\xff"]


def test_the_head_has_the_documented_fields(default: Recorded) -> None:
    """Version, producer, digest, level, and the generators after the import of PyTorch."""
    (trace,) = default.traces("plain")
    head = trace.head
    assert (head.schema_version, head.producer, head.level) == (3, "recorder", "default")
    assert head.digest == traces.DIGEST
    assert set(head.generators) >= {"python", "torch cpu"}
    assert head.machine["torch_version"] == torch.__version__


# The start of the recorder


def python(folder: Path, code: str, *paths: Path, **environment: str) -> Any:
    """Run a line of Python with the recorder."""
    path = os.pathsep.join(map(str, [SITE, *paths]))
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "XORBENCH_RECORD": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def test_the_next_sitecustomize_runs(tmp_path: Path) -> None:
    """The module that Python would import without the recorder runs as `sitecustomize`."""
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind" / "sitecustomize.py").write_text("MARK = 'behind'\n")
    code = "import sitecustomize, sys; print(sitecustomize.MARK, sys.path)"
    done = python(tmp_path, code, tmp_path / "behind")
    assert done.stdout.startswith("behind ")
    assert str(SITE) not in done.stdout
    assert (tmp_path / "presence.jsonl").exists()


def test_an_error_of_the_next_sitecustomize_is_reported_by_python(tmp_path: Path) -> None:
    """Python prints it as without the recorder, and continues."""
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind" / "sitecustomize.py").write_text("raise ValueError('its own')\n")
    done = python(tmp_path, "print('on')", tmp_path / "behind")
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert "its own" in done.stderr


@pytest.mark.parametrize("options", ["{", '{"unknown": 1}'])
def test_bad_options_do_not_affect_the_program(tmp_path: Path, options: str) -> None:
    """The program runs without a record."""
    done = python(tmp_path, "print('on')", XORBENCH_RECORD_OPTIONS=options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_a_recorder_that_cannot_be_installed_reports_it(tmp_path: Path) -> None:
    """With an unknown torch module, the import succeeds, and the presence file has the error."""
    (tmp_path / "other" / "torch").mkdir(parents=True)
    (tmp_path / "other" / "torch" / "__init__.py").write_text("kind = 'other'\n")
    done = python(tmp_path, "import torch; print(torch.kind)", tmp_path / "other")
    assert (done.returncode, done.stdout, done.stderr) == (0, "other\n", "")
    assert [line.event for line in traces.presence(tmp_path)] == ["python", "failed"]


def test_a_failed_import_of_torch_can_be_retried(tmp_path: Path) -> None:
    """The recorder waits for the import that succeeds."""
    (tmp_path / "other" / "torch").mkdir(parents=True)
    source = "import sys; sys.first = not hasattr(sys, 'first'); 1 / (not sys.first)\n"
    (tmp_path / "other" / "torch" / "__init__.py").write_text(source)
    code = "try:\n import torch\nexcept ZeroDivisionError:\n pass\nimport torch; print('on')"
    done = python(tmp_path, code, tmp_path / "other")
    assert (done.stdout, done.stderr) == ("on\n", "")
    assert [line.event for line in traces.presence(tmp_path)] == ["python", "failed"]


@pytest.mark.parametrize("path", sorted(RECORDER.rglob("*.py")), ids=lambda path: path.name)
def test_the_recorder_has_the_syntax_of_python_3_9(path: Path) -> None:
    """It is the oldest interpreter that PyTorch supports."""
    ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.mark.parametrize("source", ["match x:\n case 1: pass", "try: pass\nexcept* OSError: pass"])
def test_newer_syntax_is_refused(source: str) -> None:
    """The check above can fail."""
    with pytest.raises(SyntaxError):
        ast.parse(source, feature_version=(3, 9))
