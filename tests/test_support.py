"""Support of settings: engines, float64 references and traces refuse unsupported settings."""

from dataclasses import replace

import pytest

from xorbench.errors import BadOption
from xorbench.xor.matrix import support
from xorbench.xor.matrix.axes import AXES, CASE_AXES, FLOAT64, Axis
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.recipe import Recipe

BY_NAME = {axis.name: axis for axis in AXES}


def declare(monkeypatch: pytest.MonkeyPatch, name: str, *supporters: str) -> None:
    """Declare the engines and references that support a setting, with the default reason."""
    words = "does not support {name} {value}"
    row = replace(BY_NAME[name], supported_by=frozenset(supporters), refused=words)
    axes = tuple(row if axis.name == name else axis for axis in CASE_AXES)
    monkeypatch.setattr(support, "CASE_AXES", axes)


def test_a_setting_is_unsupported_by_default() -> None:
    """A row without declaration is supported by no engine and no float64 reference."""
    bare = Axis(*(getattr(BY_NAME["tf32"], name) for name in Axis.__match_args__[:7]))
    assert bare.supported_by == frozenset()


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_a_row_names_existing_engines(axis: Axis) -> None:
    """A misspelt name would make an engine refuse the setting."""
    assert axis.supported_by <= {*ENGINES, FLOAT64}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_skips_a_case_with_an_unsupported_setting(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names the engine, the setting and its value."""
    declare(monkeypatch, "tf32")
    case = Case(engine=engine, tf32=True)
    reason = f"the {engine} engine does not support tf32 true"
    assert support.unsupported_reason(case, Recipe()) == reason


def test_a_neutral_value_is_always_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the default of the field every engine trains the case."""
    declare(monkeypatch, "tf32")
    assert support.unsupported_reason(Case(), Recipe()) == ""
    assert support.float64_refusal(Case()) == ""


def test_an_unsupported_float64_reference_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine trains the case; the reason names the missing reference."""
    declare(monkeypatch, "tf32", "loader")
    case = Case(tf32=True)
    assert support.unsupported_reason(case, Recipe()) == ""
    assert support.float64_refusal(case) == "no float64 reference: it does not support tf32 true"


def test_a_trace_is_refused_for_a_setting_that_the_loader_does_not_support(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trace records the loader's steps, which would be a different training."""
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
def test_the_float64_reference_supports_every_setting_of_the_package(case: Case) -> None:
    """No setting is ignored."""
    assert support.float64_refusal(case) == ""


def test_the_universal_training_has_no_float64_reference() -> None:
    """It has golden digests instead."""
    assert "golden digests instead" in support.float64_refusal(Case(engine="universal"))


def test_the_key_of_a_float64_reference_has_the_settings_it_depends_on() -> None:
    """Order and size of the batches are in the key; engine and memory are not."""
    case = Case(batch_size=32, drop_last=False, seed=3)
    key = {"batch_size": 32, "drop_last": False, "seed": 3, "persistent_workers": False}
    assert dict(support.float64_key(case)) == key
    same = replace(case, engine="tensor", pin_memory=True, dtype="float64", num_workers=2)
    assert support.float64_key(same) == support.float64_key(case)


def test_persistent_loader_workers_change_the_key() -> None:
    """Without loader workers the setting has no effect."""
    plain, kept = Case(), Case(persistent_workers=True)
    assert support.float64_key(kept) == support.float64_key(plain)
    assert support.float64_key(replace(kept, num_workers=2)) != support.float64_key(plain)


def test_a_new_setting_that_the_reference_supports_is_in_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row can declare that the reference does not depend on it."""
    row = replace(BY_NAME["tf32"], idle=BY_NAME["seed"].idle, changes_float64=True)
    monkeypatch.setattr(support, "CASE_AXES", (row,))
    assert support.float64_key(Case(tf32=True)) == (("tf32", True),)
