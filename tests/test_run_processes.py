"""The processes of two runs are matched by rank, program and order."""

from itertools import count
from pathlib import Path

import pytest

from xorbench.programs.run_processes import (
    ProcessPair,
    different_arguments,
    is_same_process,
    paired,
)
from xorbench.records.trace import ProcessInfo, TraceFile, TraceHead

NUMBERS = count(1)
UUIDS = ("0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7")


def trace(command: str, name: str | None = None) -> TraceFile:
    """The record of a process with these arguments."""
    process = ProcessInfo(argv=command.split(), name=name, rank=None, restart=None, started_ns=0)
    head = TraceHead(producer="recorder", digest="", level="default", process=process, machine={})
    return TraceFile(Path(f"{next(NUMBERS)}.jsonl"), head)


def matched(a: list[str], b: list[str]) -> list[tuple[str, str]]:
    """The command lines that are compared; empty for a missing process."""
    pairs = paired([trace(command) for command in a], [trace(command) for command in b])
    return [(_command(pair.a), _command(pair.b)) for pair in pairs]


def _command(side: TraceFile | None) -> str:
    return "" if side is None or side.head.process is None else " ".join(side.head.process.argv)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("train.py --out out-100", "train.py --out out-103"),
        (
            "ipykernel_launcher.py -f /tmp/tmpab12cd34.json",
            "ipykernel_launcher.py -f /tmp/tmpx.json",
        ),
        ("tmpab12cd34.py", "tmpzz98yy76.py"),
        (f"run-{UUIDS[0]}.py", f"run-{UUIDS[1]}.py"),
    ],
)
def test_a_word_that_changes_does_not_decide_the_match(a: str, b: str) -> None:
    """A time stamp, a temporary file, or a uuid, also in the name of the script."""
    assert matched([a], [b]) == [(a, b)]


def test_different_programs_are_not_compared() -> None:
    """Each is missing in the other run."""
    assert matched(["a.py"], ["b.py"]) == [("a.py", ""), ("", "b.py")]


def test_equal_arguments_are_matched_in_any_order() -> None:
    """The order of processes that run at the same time is arbitrary."""
    a, b = ["t.py --seed 1 --out 7", "t.py --seed 2 --out 8"], ["t.py --seed 2 --out 9"]
    b.append("t.py --seed 1 --out 10")
    assert matched(a, b) == [(a[0], b[1]), (a[1], b[0])]


def test_time_stamps_of_two_runs_may_overlap() -> None:
    """The second training of run 1 began in the second of the first one of run 2."""
    a, b = ["t.py 100", "t.py 101"], ["t.py 101", "t.py 102"]
    assert matched(a, b) == list(zip(a, b, strict=True))


def test_an_additional_process_is_the_one_without_equal_arguments() -> None:
    """The processes with equal arguments are compared."""
    assert matched(["t.py 1", "t.py 2"], ["t.py 2"]) == [("t.py 1", ""), ("t.py 2", "t.py 2")]


def test_the_words_that_differ_are_a_note() -> None:
    """Hidden words are replaced in the name of the process."""
    pairs: list[ProcessPair] = paired([trace("t.py --out x1")], [trace("t.py --out x2")])
    assert str(pairs[0].process) == "t.py --out …"
    (note,) = different_arguments(pairs, "run 1", "run 2")
    assert note == "the command lines of run 1 and run 2 differ: x1 and x2"
    assert not different_arguments(paired([trace("t.py")], [trace("t.py")]), "run 1", "run 2")


def test_a_process_is_recognized_in_a_further_pair_of_runs() -> None:
    """Its hidden word may have the same value in both runs of that pair."""
    assert is_same_process("t.py --out …", "t.py --out x3")
    assert is_same_process("t.py --out x3", "t.py --out …")
    assert not is_same_process("t.py --out …", "u.py --out x3")


def test_a_thread_is_matched_by_the_order_of_its_number() -> None:
    """The number of a thread counts every thread of the program."""
    pairs = paired(
        [trace("t.py", "Thread-1 (train)"), trace("t.py", "Thread-2 (train)")],
        [trace("t.py", "Thread-2 (train)"), trace("t.py", "Thread-3 (train)")],
    )
    assert len(pairs) == 2
    assert all(pair.a is not None and pair.b is not None for pair in pairs)
