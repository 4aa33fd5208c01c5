"""Typed columns of a data frame: one per setting of a case, and shares of correct answers."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import pandas as pd

from xorbench.records.schema.training import Count
from xorbench.report.text import TableRow
from xorbench.xor.matrix.axes import AXES, Axis
from xorbench.xor.matrix.case import Variant, short

SETTINGS: Final = tuple(axis.name for axis in AXES)


def setting_columns(
    variants: Sequence[Variant], exclude: Collection[str] = ()
) -> dict[str, pd.Series]:
    """One column per axis. Numbers and truth values keep their type; None is a missing number.

    Any other value is the text that an id shows, such as `auto` or an interpreter's label.
    """
    return {
        axis.name: _column(axis, [axis.value(variant) for variant in variants])
        for axis in AXES
        if axis.name not in exclude
    }


def _column(axis: Axis, values: list[Any]) -> pd.Series:
    if axis.kind not in (bool, int):
        return pd.Series([short(value) for value in values], dtype=str)
    dtypes = {(bool, False): "bool", (bool, True): "boolean", (int, False): "int64"}
    return pd.Series(values, dtype=dtypes.get((axis.kind, axis.is_optional), "Int64"))


def with_settings(frame: pd.DataFrame, variants: Sequence[Variant]) -> pd.DataFrame:
    """The frame with the settings of its cases after the column `case`."""
    if "case" not in frame.columns:
        return frame
    by_id = {variant.id: variant for variant in variants}
    settings = setting_columns([by_id[case] for case in frame["case"]])
    frame, place = frame.reset_index(drop=True), list(frame.columns).index("case") + 1
    parts = [frame.iloc[:, :place], pd.DataFrame(settings), frame.iloc[:, place:]]
    return pd.concat(parts, axis="columns")


def score(name: str, count: Count) -> TableRow:
    """A score as two integers and as a share from 0 to 1."""
    share = count.correct / count.total if count.total else None
    return {
        f"{name} correct": count.correct,
        f"{name} total": count.total,
        f"{name} accuracy": share,
    }


def narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without columns for settings and shares, which the case id and scores show."""
    own = [name for name in frame.columns if name in SETTINGS or name.endswith(" accuracy")]
    return frame.drop(columns=own)
