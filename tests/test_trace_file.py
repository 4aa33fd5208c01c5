"""The file of a trace: each line is decoded once, and a large file is not kept in memory."""

from pathlib import Path

import msgspec
import pytest

from xorbench.errors import BadFile
from xorbench.records import trace as traces
from xorbench.records.trace import TraceEnd, TraceFile, TraceHead, TraceStep


@pytest.fixture
def trace(tmp_path: Path) -> TraceFile:
    """A trace of three steps and an end."""
    head = TraceHead(producer="recorder", digest="", level="default", machine={})
    steps = [TraceStep(step=n, at_s=0.0, took_s=0.0, recorder_s=0.0) for n in range(3)]
    lines = [head, *steps, TraceEnd(end=True, steps=3, complete=True)]
    path = tmp_path / "1-23.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return traces.opened(path)


def test_a_trace_is_read_once(trace: TraceFile) -> None:
    """Lines, their count and the end are available after the file is deleted."""
    before = list(trace.lines())
    assert trace.end() is before[-1]
    trace.path.unlink()
    assert all(a is b for a, b in zip(trace.lines(), before, strict=True))
    assert (trace.step_count, trace.has_steps, trace.end()) == (3, True, before[-1])


def test_two_iterations_of_a_trace_are_independent(trace: TraceFile) -> None:
    """Interleaved iterations each return every step."""
    pairs = zip(trace.steps(), trace.steps(), strict=True)
    assert [(a.step, b.step) for a, b in pairs] == [(0, 0), (1, 1), (2, 2)]


def test_lines_are_read_on_request(trace: TraceFile) -> None:
    """A damaged line after the first step raises only when it is read."""
    lines = trace.path.read_bytes().splitlines(keepends=True)
    trace.path.write_bytes(b"".join([*lines[:2], b"{\n", *lines[3:]]))
    assert trace.has_steps
    with pytest.raises(BadFile, match=":3: damaged"):
        list(trace.lines())


def test_a_large_trace_is_not_kept_in_memory(
    trace: TraceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines are decoded again for each iteration."""
    monkeypatch.setattr(traces, "CACHE_BYTES", 0)
    first, again = list(trace.steps()), list(trace.steps())
    assert first == again
    assert not any(a is b for a, b in zip(first, again, strict=True))
