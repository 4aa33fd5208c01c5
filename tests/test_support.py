"""Who supports a setting: engines, the float64 twin, and traces refuse what they would ignore."""

from dataclasses import replace

import pytest

from xorbench.errors import BadOption
from xorbench.xor.matrix import support
from xorbench.xor.matrix.axes import AXES, CASE_AXES, FLOAT64, Axis
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.recipe import Recipe

BY_NAME = {axis.name: axis for axis in AXES}


def declare(monkeypatch: pytest.MonkeyPatch, name: str, *who: str) -> None:
    """Have the row of a setting say that these alone support it, in the default words."""
    words = "does not support {name} {value}"
    row = replace(BY_NAME[name], supported_by=frozenset(who), refused=words)
    axes = tuple(row if axis.name == name else axis for axis in CASE_AXES)
    monkeypatch.setattr(support, "CASE_AXES", axes)


def test_nobody_supports_a_config_by_default() -> None:
    """A row that declares nothing is supported by no engine and no twin."""
    bare = Axis(*(getattr(BY_NAME["tf32"], name) for name in Axis.__match_args__[:7]))
    assert bare.supported_by == frozenset()


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_a_row_names_engines_and_twins_that_exist(axis: Axis) -> None:
    """A misspelt name would leave the setting refused by whom it means."""
    assert axis.supported_by <= {*ENGINES, FLOAT64}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_skips_a_case_whose_config_it_ignores(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every engine, with the setting and its value in the reason."""
    declare(monkeypatch, "tf32")
    case = Case(engine=engine, tf32=True)
    said = f"the {engine} engine does not support tf32 true"
    assert support.unsupported_reason(case, Recipe()) == said


def test_a_neutral_value_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the default of the field a case is trained, whoever supports the setting."""
    declare(monkeypatch, "tf32")
    assert support.unsupported_reason(Case(), Recipe()) == ""
    assert support.float64_refusal(Case()) == ""


def test_a_twin_that_ignores_a_config_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that supports it trains; there is no twin, and the reason says so."""
    declare(monkeypatch, "tf32", "loader")
    case = Case(tf32=True)
    assert support.unsupported_reason(case, Recipe()) == ""
    assert support.float64_refusal(case) == "no float64 reference: it does not support tf32 true"


def test_a_trace_is_refused_where_the_loader_ignores_a_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trace follows the loader's steps: they would be another training."""
    declare(monkeypatch, "tf32", "tensor")
    with pytest.raises(BadOption, match=r"^CASE: .* the loader engine does not support tf32 true"):
        support.traced(Case(engine="tensor", tf32=True))


@pytest.mark.parametrize(
    "case",
    [
        Case("cuda", pin_memory=True, non_blocking=True),
        Case(engine="compile", optimizer="fused", dtype="bfloat16"),
        Case(num_workers=2, persistent_workers=True, seed=3, drop_last=False),
        Case("cuda:1", tf32=True, data_on_device=True, dtype="float64"),
    ],
    ids=lambda case: case.id,
)
def test_the_float64_twin_follows_every_config_of_the_package(case: Case) -> None:
    """None of them is ignored by it."""
    assert support.float64_refusal(case) == ""


def test_the_universal_training_has_golden_digests_instead_of_a_twin() -> None:
    """Its numbers are other numbers."""
    assert "golden digests instead" in support.float64_refusal(Case(engine="universal"))


def test_the_key_of_a_twin_holds_what_moves_its_result() -> None:
    """Order and size of the batches; not the engine, nor where the numbers are kept."""
    case = Case(batch_size=32, drop_last=False, seed=3)
    key = {"batch_size": 32, "drop_last": False, "seed": 3, "persistent_workers": False}
    assert dict(support.float64_key(case)) == key
    other = replace(case, engine="tensor", pin_memory=True, dtype="float64", num_workers=2)
    assert support.float64_key(other) == support.float64_key(case)


def test_kept_loader_processes_move_a_twin_where_there_are_any() -> None:
    """Without loader processes the setting does nothing."""
    plain, kept = Case(), Case(persistent_workers=True)
    assert support.float64_key(kept) == support.float64_key(plain)
    assert support.float64_key(replace(kept, num_workers=2)) != support.float64_key(plain)


def test_a_new_config_that_the_twin_supports_is_in_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless its row says that it does not move the twin."""
    row = replace(BY_NAME["tf32"], idle=BY_NAME["seed"].idle, changes_float64=True)
    monkeypatch.setattr(support, "CASE_AXES", (row,))
    assert support.float64_key(Case(tf32=True)) == (("tf32", True),)
