"""`run --precision`: processes are added until every interval is narrow enough."""

from pathlib import Path

import msgspec
import pytest
from conftest import Xorbench

from xorbench.errors import BadOption
from xorbench.records import loading
from xorbench.records.schema.run import Run
from xorbench.records.store import RunStore
from xorbench.runtime.progress import Lines
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.precision import reached, too_wide, widest
from xorbench.xor.run import run as running


def asking(run: Run, precision: float, most: int) -> Run:
    """The run with a precision."""
    info = msgspec.structs.replace(run.info, precision=precision, most_processes=most)
    return msgspec.structs.replace(run, info=info)


def test_only_what_may_still_be_narrowed_asks_for_another_process(quick_run: Run) -> None:
    """Another process is added if an interval is too wide, unless a training failed."""
    share = widest(Evidence(quick_run))
    assert share is not None
    assert share > 0
    assert not too_wide(quick_run)
    assert "--precision" in too_wide(asking(quick_run, share / 2, 3))
    assert not too_wide(asking(quick_run, share * 2, 3))
    assert not too_wide(asking(quick_run, share / 2, 2))


def test_the_answer_states_the_reached_precision(quick_run: Run) -> None:
    """The answer states whether the precision was reached."""
    share = widest(Evidence(quick_run))
    assert share is not None
    assert reached(Evidence(quick_run)) == ""
    assert reached(Evidence(asking(quick_run, share * 2, 3))).startswith("within")
    assert "not --precision" in reached(Evidence(asking(quick_run, share / 2, 3)))


def test_processes_are_added_until_there_are_as_many_as_allowed(
    xorbench: Xorbench, tmp_path: Path
) -> None:
    """An unreachable precision ends at the largest number of processes, with every case in each."""
    done = xorbench(
        *["run", "--quick", "--epochs", "3", "--precision", "0.0001%", "--processes", "3"]
    )
    assert done.stderr.count("one more process") == 1
    assert "not --precision 0.0001%, in 3 processes" in " ".join(done.stdout.split())
    run = loading.load((tmp_path / "results" / "latest").resolve())
    assert run.info.processes_per_config == 3
    assert not run.unfinished
    assert {len(result) for result in Evidence(run).trainings.values()} == {3}
    first = [t.epoch_digests for t in run.trainings if t.case == run.info.cases[0]]
    assert first == first[:1] * 3


def test_a_run_stopped_before_its_next_process_is_resumed(inside: Xorbench, copied: Path) -> None:
    """`run --resume` adds the missing process, and repeats no finished training."""
    run = loading.load(copied)
    store = RunStore(copied)
    store.write_info(asking(run, 1e-9, 3).info)
    store.close()
    done = inside("run", "--resume", copied.name)
    assert done.returncode == 0, done.stderr
    resumed = loading.load(copied)
    assert resumed.info.processes_per_config == 3
    assert not resumed.unfinished
    assert [process.id for process in resumed.info.processes] == ["p0", "p1", "p2"]
    assert len(resumed.trainings) == len(run.trainings) // 2 * 3
    assert [one for one in resumed.trainings if one in run.trainings] == run.trainings


def test_a_process_that_cannot_be_added_costs_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run to which no process can be added is judged and reported."""

    def refused(*_args: object) -> None:
        raise BadOption("process p2 could not start: no memory")

    store = RunStore(copied)
    store.write_info(asking(loading.load(copied), 1e-9, 3).info)
    store.close()
    (copied / "report.md").unlink()
    monkeypatch.setattr(running, "_train_once_more", refused)
    outcome = running.resume(copied.parent.parent, copied.name, Lines())
    assert outcome.exit_code == 0
    assert "not --precision" in (copied / "report.md").read_text()
