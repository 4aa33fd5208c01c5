"""Where the time of an epoch goes: the share of each phase."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from xorbench.report.text import TableRow, frame_of
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.phases import REST, phase_shares
from xorbench.xor.matrix.phases import PHASES
from xorbench.xor.report.tables.table import Table, figure

TITLES: Final = {
    "data": "waiting for data",
    "copy": "copying to the device",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    REST: "rest",
}


def phases(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The share of each phase in the time of an epoch, in per cent; one row per variant."""
    rows: list[TableRow] = [
        {
            "case": measured.variant.id,
            **{
                f"{TITLES[phase]} (%)": figure(measured.shares[phase], 100.0)
                for phase in (*PHASES, REST)
            },
            "with marks ÷ without": figure(measured.cost),
            "note": measured.note,
        }
        for measured in phase_shares(evidence)
    ]
    return frame_of(rows)


TABLE: Final = Table(
    "phases",
    "Where an epoch's time goes",
    phases,
    about=(
        "Shares of the time of an epoch, from a separate pass after the timed epochs. Each process"
        " trains each case again for a few epochs, with marks between the phases; at a mark the"
        " device is synchronized and the clock is read. Each process contributes the medians over"
        " its epochs, step by step. The centre is the geometric mean of the odds, the 95% interval"
        " is Student's t between processes. `rest` is the loop itself. `with marks ÷ without` is"
        " the cost of measuring: the sum of these medians ÷ the fastest epoch of the pass without"
        " marks. It may be well above 1 on an accelerator, where marks prevent overlapping phases."
    ),
    optional=True,
    csv="if any",
)
