"""The settings table of a run."""

import msgspec

from xorbench.records.schema.run import Run
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.settings_table import settings_table
from xorbench.xor.matrix.axes import AXES


def test_every_config_has_a_row_exercised_or_not(quick_run: Run) -> None:
    """In the order of the axes; what the run did not vary says so."""
    rows = list(settings_table(Evidence(quick_run)))
    assert [row.setting for row in rows] == [axis.name for axis in AXES]
    assert {row.setting for row in rows if row.seen != "not varied in this run"} == {"drop_last"}


def test_a_change_is_told_with_its_epoch_and_its_size(quick_run: Run) -> None:
    """The short last batch moves the weights in the first epoch, by so many ulps."""
    (row,) = [r for r in settings_table(Evidence(quick_run)) if r.setting == "drop_last"]
    assert (row.must, row.pairs, row.outcome) == ("must change", 1, "pass")
    assert row.seen.startswith("changed at epoch 0 by ")
    assert int(row.seen.split()[-2].replace(",", "")) > 1_000


def test_a_broken_expectation_is_a_failure(quick_run: Run) -> None:
    """Two cases that must differ are given one list of epoch digests."""
    epoch_digests = quick_run.trainings[0].epoch_digests
    same = [
        msgspec.structs.replace(training, epoch_digests=epoch_digests)
        for training in quick_run.trainings
    ]
    run = msgspec.structs.replace(quick_run, trainings=same)
    (row,) = [r for r in settings_table(Evidence(run)) if r.setting == "drop_last"]
    assert (row.seen, row.outcome) == ("kept", "fail")
