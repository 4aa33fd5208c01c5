"""The settings table of a run."""

import msgspec

from xorbench.records.schema.run import Run
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.settings_table import settings_table
from xorbench.xor.matrix.axes import AXES


def test_every_setting_has_a_row(quick_run: Run) -> None:
    """Every setting has a row in the order of the axes, varied or not."""
    rows = list(settings_table(Evidence(quick_run)))
    assert [row.setting for row in rows] == [axis.name for axis in AXES]
    assert {row.setting for row in rows if row.seen != "not varied in this run"} == {"drop_last"}


def test_a_change_has_its_epoch_and_its_size(quick_run: Run) -> None:
    """The row of drop_last has the first epoch that differs, and the distance in ulps."""
    (row,) = [r for r in settings_table(Evidence(quick_run)) if r.setting == "drop_last"]
    assert (row.must, row.pairs, row.outcome) == ("must change", 1, "pass")
    assert row.seen.startswith("changed at epoch 0 by ")
    assert int(row.seen.split()[-2].replace(",", "")) > 1_000


def test_a_broken_expectation_is_a_failure(quick_run: Run) -> None:
    """Two cases that must differ, with identical epoch digests, fail."""
    epoch_digests = quick_run.trainings[0].epoch_digests
    same = [
        msgspec.structs.replace(training, epoch_digests=epoch_digests)
        for training in quick_run.trainings
    ]
    run = msgspec.structs.replace(quick_run, trainings=same)
    (row,) = [r for r in settings_table(Evidence(run)) if r.setting == "drop_last"]
    assert (row.seen, row.outcome) == ("kept", "fail")
