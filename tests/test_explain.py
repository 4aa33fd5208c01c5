"""Which setting makes the bits differ: the search, and real trainings with planted causes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run_in

from xorbench.judge.explain import Set, described, smallest
from xorbench.plan.recipe import Recipe
from xorbench.verbs.explain import mixed
from xorbench.verbs.sides import planned

CASE = "cpu-loader-b128-pin0-drop1-w0-s0"


@pytest.mark.parametrize(
    ("gives_b", "sets"),
    [
        (lambda s: "b" in s, ["b"]),
        (lambda s: {"a", "c"} <= s, ["ac"]),
        (lambda s: "b" in s or {"a", "c"} <= s, ["b", "ac"]),
        (lambda s: len(s) == 3, ["abc"]),
        (lambda _s: False, []),
    ],
)
def test_the_smallest_sets_are_found_exactly(
    gives_b: Callable[[Set], bool], sets: list[str]
) -> None:
    """One cause, two that need each other, two ways, all together, none."""
    assert smallest("abc", gives_b) == [frozenset(one) for one in sets]


def test_no_set_is_tried_twice_or_above_one_that_is_found() -> None:
    """Trainings are dear."""
    asked: list[Set] = []
    smallest("abc", lambda s: asked.append(s) or "a" in s)
    assert [sorted(s) for s in asked] == [["a"], ["b"], ["c"], ["b", "c"]]


def test_that_nothing_helps_is_said() -> None:
    """An answer too."""
    assert "nothing" in next(described([], {}))


def test_a_mixture_has_what_is_named_as_b_has_it() -> None:
    """Of case, setting, variables and faults."""
    a = planned("A", CASE, Recipe(), ("draw-extra",))
    b = planned("B", f"{CASE}@threads=2+env=MKL_CBWR=AVX2", Recipe(), ("skip-batch",))
    one = mixed(a, b, frozenset({"env MKL_CBWR", "fault skip-batch"}))
    assert (one.setting.threads, one.setting.env) == (1, ("MKL_CBWR=AVX2",))
    assert set(one.faults) == {"draw-extra", "skip-batch"}
    assert mixed(a, b, frozenset({"fault draw-extra"})).faults == ()


def test_two_planted_causes_are_recovered_exactly(tmp_path: Path) -> None:
    """Two faults that both move the bits."""
    done = run_in(
        tmp_path,
        *("explain", CASE, CASE, "--epochs", "2", "--json"),
        *("--plant-b", "skip-batch", "--plant-b", "flip-weight:epoch=1,bit=20"),
    )
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["sets"] == [["fault flip-weight:epoch=1,bit=20", "fault skip-batch"]]
