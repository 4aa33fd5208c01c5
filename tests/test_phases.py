"""Phases of an epoch: the marks, the pass, the shares, and their report."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from conftest import Xorbench, epoch_digests

from xorbench.errors import BadFile
from xorbench.process.operations import OPERATIONS, Session
from xorbench.records import loading
from xorbench.records.schema.phases import PhasesLine, PhaseTimes
from xorbench.records.schema.run import Run
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.phases import phase_seconds, phase_shares
from xorbench.xor.checks import judge
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.phases import MOST_SLOTS, PHASES, pass_epochs, schedule
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.report import runs
from xorbench.xor.report.plots.phases import describe_shares, shares
from xorbench.xor.report.tables.phases import phases
from xorbench.xor.training import faults
from xorbench.xor.training.engines import UnsupportedCase
from xorbench.xor.training.faults import inject
from xorbench.xor.training.phases import marked_epoch
from xorbench.xor.training.training import Training

SMALL = Recipe(train_size=300, test_size=20, epochs=3)
BASE = Case(batch_size=64, drop_last=False)
STEPS = 5


# The marks


@pytest.mark.parametrize("engine", ["loader", "fetch"])
def test_an_epoch_with_marks_has_the_bits_of_one_without(engine: str) -> None:
    """The digests of three epochs are equal, whether the phases are timed or not."""
    case = Case(engine=engine, batch_size=64, drop_last=False)
    marked, plain = Training(case, SMALL), Training(case, SMALL)
    for _ in range(SMALL.epochs):
        assert marked_epoch(marked).digest == plain.step().digest


def test_phases_and_rest_are_the_whole_epoch() -> None:
    """By a clock that counts its readings, each interval belongs to a phase or to the loop."""
    readings = count()
    epoch = marked_epoch(Training(BASE, SMALL, clock=lambda: float(next(readings))))
    seconds = {phase: sum(slots) for phase, slots in epoch.phases_s.items()}
    assert seconds == {
        "data": STEPS + 1, "copy": STEPS, "forward": STEPS, "backward": STEPS,
        "optimizer": 2 * STEPS,
    }  # fmt: skip
    rest = 2 + 2 * STEPS  # before the first batch, at the end, and twice around each step
    assert sum(seconds.values()) + rest == epoch.epoch_s


@pytest.mark.parametrize(
    ("fault", "phase"), [("slow-loader", "data"), ("slow-optimizer", "optimizer")]
)
def test_a_delay_shows_in_its_phase(
    fault: str, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that only a delay advances, only the phase of the delay takes time."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(faults.time, "sleep", sleep)
    delay = [FaultSpec(fault, {"ms": 10})]
    training = Training(
        BASE, SMALL, alter=lambda training: inject(training, delay), clock=lambda: now
    )
    seconds = {name: sum(slots) for name, slots in marked_epoch(training).phases_s.items()}
    assert seconds.pop(phase) == pytest.approx(STEPS * 0.01)
    assert set(seconds.values()) == {0.0}


def test_marks_are_taken_away() -> None:
    """After the epoch, the optimizer, the model and the batches are unchanged."""
    training = Training(BASE, SMALL)
    spec, before = training.spec, dict(vars(training.spec.optimizer))
    tamper = spec.tamper
    marked_epoch(training)
    assert vars(spec.optimizer).keys() == before.keys()
    assert spec.tamper is tamper
    assert not spec.model._forward_pre_hooks


def test_an_epoch_without_marks_is_refused() -> None:
    """A replayed step has no boundary between its phases, so nothing is reported for them."""
    training = Training(Case(engine="replay", batch_size=64), SMALL)
    with pytest.raises(UnsupportedCase, match="do not pass the marks"):
        marked_epoch(training)


def test_many_steps_share_slots() -> None:
    """An epoch of 300 steps is recorded in 100 slots and one for its end, and none is lost."""
    readings = count()
    training = Training(Case(batch_size=1), SMALL, clock=lambda: float(next(readings)))
    slots = marked_epoch(training).phases_s["forward"]
    assert (len(slots), sum(slots), slots[-1]) == (MOST_SLOTS + 1, 300.0, 0.0)
    assert set(slots[:-1]) == {3.0}


def test_the_universal_training_has_no_phases() -> None:
    """The operation refuses the universal training, and the pass skips it."""
    session = Session()
    case = msgspec.to_builtins(Case(engine="universal"))
    recipe = msgspec.to_builtins(SMALL)
    opened = OPERATIONS["open"](session, case=case, recipe=recipe, faults=[])
    with pytest.raises(UnsupportedCase, match="no phases"):
        OPERATIONS["marked step"](session, training=opened["training"])


# The pass


def test_the_pass_is_short() -> None:
    """Six epochs for each case of the default run, and at least one marked and one unmarked."""
    assert schedule(Recipe()) == [False, True] * 3
    assert schedule(Recipe(epochs=1)) == [False, True, False]
    assert len(schedule(Recipe(epochs=1_000_000))) == len(schedule(Recipe()))


def test_only_engines_that_can_be_marked_have_a_pass() -> None:
    """Engines with a DataLoader have a pass; the others have a reason."""
    measured = {name for name in ENGINES if pass_epochs(Recipe(), Case(engine=name))}
    assert measured == {"loader", "fetch"}


def test_a_run_times_the_phases_of_each_case_in_each_process(quick_run: Run) -> None:
    """Each case in each process has shares, with the bits of the timed epochs."""
    trainings = {(one.case.id, one.process): one for one in quick_run.trainings}
    assert {(line.case, line.process) for line in quick_run.phases} == trainings.keys()
    for line in quick_run.phases:
        timed = trainings[line.case, line.process].epoch_digests
        assert line.digests == timed[: pass_epochs(quick_run.info.recipe, Case())]
        assert all(sum(map(sum, one.phases())) <= one.epoch_s for one in line.marked)


def test_the_pass_does_not_change_the_result(inside: Xorbench, tmp_path: Path) -> None:
    """Runs with and without the pass record identical digests; without it there is no table."""
    words = ("run", "--quick", "--devices", "cpu", "--epochs", "2", "--processes", "1")
    words = (*words, "--engines", "loader,replay", "--train-size", "640")
    inside(*words, "--out", "with")
    inside(*words, "--out", "without", "--no-phases")
    assert epoch_digests(tmp_path / "with") == epoch_digests(tmp_path / "without")
    latest = {name: (tmp_path / name / "latest").resolve() for name in ("with", "without")}
    assert not (latest["without"] / "phases.jsonl").exists()
    assert not (latest["without"] / "phases.csv").exists()
    assert "an epoch's time goes" not in (latest["without"] / "report.md").read_text()
    table = pd.read_csv(latest["with"] / "phases.csv").set_index("case")
    replayed = table.loc["cpu-replay-b128-pin0-drop1-w0-s0"]
    assert replayed["note"] == "not separable: a captured list of operators is replayed"
    assert pd.isna(replayed["forward (%)"])
    assert table.loc["cpu-loader-b128-pin0-drop1-w0-s0", "forward (%)"] > 0


def test_a_stopped_pass_is_resumed(copied: Path, inside: Xorbench) -> None:
    """`--resume` measures what is missing, and trains no timed epoch again."""
    path, info = copied / "phases.jsonl", copied / "run.json"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:1]))
    info.write_text(json.dumps(json.loads(info.read_text()) | {"finished": None}))
    epochs = (copied / "epochs.jsonl").read_bytes()
    done = inside("run", "--resume", copied.name)
    assert done.returncode == 0, done.stderr
    assert (copied / "epochs.jsonl").read_bytes() == epochs
    resumed = loading.load(copied)
    assert len(resumed.phases) == len(whole)
    assert resumed.info.finished
    assert len(phases(Evidence(resumed)).dropna(subset=["forward (%)"])) == 2


def test_a_duplicate_line_is_damage(copied: Path) -> None:
    """A duplicate line is rejected."""
    path = copied / "phases.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(BadFile, match=r"phases\.jsonl:5: damaged: phases of .* occurs twice"):
        loading.load(copied)


def test_an_older_run_has_no_table(quick_run: Run) -> None:
    """A run from before the pass has neither table nor picture."""
    info = msgspec.structs.replace(quick_run.info, phases=False)
    old = Evidence(msgspec.structs.replace(quick_run, info=info, phases=[]))
    (section,) = [s for s in runs.content(old, judge(old)).sections if s.name == "phases"]
    assert not section.shown
    assert section.csv is None
    assert shares(old).empty


# The shares


def times(forward: float, data: float = 1.0) -> PhaseTimes:
    """An epoch of two steps, the second of which has this forward phase."""
    return PhaseTimes(
        epoch_s=2 * data + 6.0 + forward + 1.0,
        data_s=[data, data, 0.0],
        copy_s=[1.0, 1.0, 0.0],
        forward_s=[1.0, forward, 0.0],
        backward_s=[1.0, 1.0, 0.0],
        optimizer_s=[0.5, 0.5, 0.0],
    )


def line_of(*marked: PhaseTimes, **fields: object) -> PhasesLine:
    """A pass with these marked epochs."""
    digests = ["0" * 64] * (len(marked) + 2)
    values = {"marked": list(marked), "unmarked_epoch_s": [1.0, 1.0], "digests": digests}
    return PhasesLine(process="p0", case=Case().id, **(values | fields))  # type: ignore[arg-type]


def test_a_disturbed_step_has_no_effect() -> None:
    """One step of one epoch that takes 100 times as long does not change the shares."""
    calm = phase_seconds(line_of(times(1.0), times(1.0), times(1.0)))
    disturbed = phase_seconds(line_of(times(1.0), times(100.0), times(1.0)))
    assert disturbed == calm
    assert calm["forward"] == 2.0


def test_the_shares_of_a_case_are_the_whole_epoch(quick_run: Run) -> None:
    """The shares add up to 100%, up to the mean of odds; each is within its interval."""
    for result in phase_shares(Evidence(quick_run)):
        values = [one for one in result.shares.values() if one is not None]
        assert len(values) == len(PHASES) + 1
        assert sum(one.value for one in values) == pytest.approx(1.0, abs=0.05)
        for one in values:
            assert one.low is not None
            assert one.high is not None
            assert 0 < one.low <= one.value <= one.high < 1
        assert (result.processes, result.note) == (2, "")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            lambda line: {"digests": ["0" * 64, *line.digests[1:]]},
            "p0: the bits differ from the timed epochs",
        ),
        (lambda _line: {"failed": "its process died: killed by SIGKILL"}, "p0: its process died"),
    ],
    ids=["bits", "died"],
)
def test_an_invalid_pass_is_excluded(
    quick_run: Run, change: Callable[[PhasesLine], dict[str, object]], note: str
) -> None:
    """An invalid pass is noted; the remaining process has no interval."""
    first = next(line for line in quick_run.phases if line.process == "p0")
    changed = msgspec.structs.replace(first, **change(first))
    lines = [changed if line is first else line for line in quick_run.phases]
    result = phase_shares(Evidence(msgspec.structs.replace(quick_run, phases=lines)))
    (one,) = [x for x in result if x.variant.case.id == first.case]
    assert note in one.note
    assert one.processes == 1


def test_the_report_shows_table_and_picture(quick_folder: Path) -> None:
    """In Markdown, on the page, as CSV, and as SVG."""
    latest = quick_folder / "latest"
    assert "## Where an epoch's time goes" in (latest / "report.md").read_text()
    page = (latest / "report.html").read_text()
    assert 'id="table-phases"' in page
    assert 'id="figure-phases"' in page
    assert len(pd.read_csv(latest / "phases.csv")) == 2
    assert (latest / "plots" / "phases.svg").exists()


def test_the_picture_is_described(quick_run: Run) -> None:
    """Bars and the largest phase, with its range."""
    text = describe_shares(shares(Evidence(quick_run)))
    assert text.startswith("2 bars; the largest phase is waiting for data, from ")


def test_a_dry_run_states_the_time_of_the_pass(inside: Xorbench) -> None:
    """The estimate states the time of the pass, if there is one."""
    words = ("run", "--quick", "--devices", "cpu", "--dry-run", "--json")
    estimates = [json.loads(inside(*words, *more).stdout) for more in ((), ("--no-phases",))]
    measured, plain = estimates
    assert 0 < measured["phases_s"] < 0.05 * measured["estimate_s"]
    assert plain["phases_s"] == 0


def test_the_reference_runs_are_read() -> None:
    """Reference runs from before and after the pass are read, with their case ids."""
    root = Path(__file__).parents[1] / "results" / "reference"
    for name, timed in (("epyc-2core-cpu", 38), ("epyc-2core-cpu-engines", 0)):
        run = loading.load(root / name)
        assert (len(run.phases), run.info.phases) == (timed, timed > 0)
        ids = [case["id"] for case in json.loads((root / name / "run.json").read_text())["cases"]]
        assert [case.id for case in run.info.cases] == ids
        assert run.info.recipe.sha256() == run.info.recipe_sha256


# Pinned memory


def accelerated(run: Run, pinned: int | None, device: str | None = "cuda") -> Run:
    """The run with pinned memory, on a machine with this accelerator."""
    case = Case(pin_memory=True)
    first = run.trainings[0]
    processes = [
        msgspec.structs.replace(one, machine=one.machine | {"accelerator": device})
        for one in run.info.processes
    ]
    info = msgspec.structs.replace(run.info, cases=[case], processes=processes)
    line = next(line for line in run.phases if line.case == first.case.id)
    lines = [msgspec.structs.replace(line, case=case.id, pinned=pinned)]
    training = msgspec.structs.replace(first, case=case)
    return msgspec.structs.replace(
        run, info=info, trainings=[training], phases=lines, epochs_by_training={}
    )


@pytest.mark.parametrize(
    ("pinned", "device", "outcome", "expected"),
    [
        (57, "cuda", "pass", "all 57 batches"),
        (56, "cuda", "fail", "p0: 56 of 57"),
        (None, "cuda", "skipped", "the pass that inspects batches did not run"),
        (None, None, "skipped", "no effect here: PyTorch ignores pin_memory without"),
    ],
)
def test_batches_that_are_not_pinned_fail(
    quick_run: Run, pinned: int | None, device: str | None, outcome: str, expected: str
) -> None:
    """One unpinned batch of 57 fails; without an accelerator the check is skipped."""
    verdicts = judge(Evidence(accelerated(quick_run, pinned, device)))
    (verdict,) = [one for one in verdicts if one.check == "pinned memory"]
    assert (verdict.outcome, verdict.actual[: len(expected)]) == (outcome, expected)
