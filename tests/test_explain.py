"""Which setting makes the bits differ: the search."""

import random
from collections.abc import Callable
from itertools import chain, combinations

import pytest

from xorbench.cli import main
from xorbench.machine.kernels import SWITCHES
from xorbench.programs.minimal_set import Exhausted, Explanation, Gives, Set, described, search
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.trace.explain import matches_record, mixed, switched
from xorbench.xor.trace.training_ref import planned

CASE = "cpu-loader-b128-pin0-drop1-w0-s0"
VALUES = dict.fromkeys("abcdefghij", ("1", "2"))


class Oracle:
    """Replaces the trainings by a function, and records its calls."""

    def __init__(self, gives: Callable[[Set], Gives | bool], most: int = 1000) -> None:
        self.gives = gives
        self.most = most
        self.calls: list[Set] = []

    def __call__(self, names: Set) -> Gives:
        """The side whose bits these differences give; raises `Exhausted` at the limit."""
        if len(self.calls) == self.most:
            raise Exhausted
        self.calls.append(names)
        result = self.gives(names)
        return ("B" if result else "A") if isinstance(result, bool) else result


@pytest.mark.parametrize("cause", VALUES)
def test_one_cause_of_ten_takes_few_trainings(cause: str) -> None:
    """Fewer than 20 at any position, including the three first trainings."""
    oracle = Oracle(lambda s: cause in s)
    result = search(list(VALUES), oracle)
    assert (result.cause, result.minimal, result.rest_gives) == ((cause,), True, "A")
    assert 3 + len(oracle.calls) < 20


@pytest.mark.parametrize(
    ("gives_b", "cause", "rest_gives"),
    [
        (lambda s: "b" in s, "b", "A"),
        (lambda s: {"a", "j"} <= s, "aj", "A"),
        (lambda s: {"b", "c", "i"} <= s, "bci", "A"),
        (lambda s: len(s) == 10, "abcdefghij", None),
        (lambda _s: False, "", None),
    ],
)
def test_causes_are_found_exactly(
    gives_b: Callable[[Set], bool], cause: str, rest_gives: Gives | None
) -> None:
    """One cause, two and three that need each other, all together, none."""
    result = search(list(VALUES), Oracle(gives_b))
    rest = tuple(name for name in VALUES if name not in cause)
    assert result == Explanation(tuple(cause), True, rest, rest_gives)


def test_one_of_several_causes_is_found_and_the_others_are_reported() -> None:
    """Either b, or a and c together: the other settings also give B's bits."""
    result = search("abc", Oracle(lambda s: "b" in s or {"a", "c"} <= s))
    assert (result.cause, result.rest_gives) == (("b",), "B")
    sentence = described(result, VALUES)
    assert sentence == "Cause: b (1 → 2). These also give B's bits: a (1 → 2), c (1 → 2)."


def test_settings_that_change_the_result_differently_are_reported() -> None:
    """One setting gives B's bits, the other gives bits of neither side."""

    def gives(names: Set) -> Gives:
        return "B" if "a" in names else "neither" if "b" in names else "A"

    result = search("abc", Oracle(gives))
    assert (result.cause, result.rest_gives) == (("a",), "neither")
    sentence = described(result, VALUES)
    assert "These also change the result, to bits of neither A nor B: b (1 → 2), c (1" in sentence


def test_a_failing_set_is_not_a_cause() -> None:
    """A combination that cannot be trained gives the bits of no side."""
    result = search("ab", Oracle(lambda s: "B" if "a" in s else "failure"))
    assert (result.cause, result.rest_gives) == (("a",), "failure")


def test_the_cause_is_1_minimal_for_any_oracle() -> None:
    """For any dependence on the settings, no member of the cause can be removed."""
    draw = random.Random(0)
    for _ in range(300):
        sets = chain.from_iterable(combinations("abcdef", size) for size in range(1, 6))
        giving = {frozenset(one) for one in sets if draw.random() < 0.3} | {frozenset("abcdef")}
        oracle = Oracle(giving.__contains__)
        cause = frozenset(search("abcdef", oracle).cause)
        assert cause in giving
        assert not any(cause - {name} in giving for name in cause)
        assert len(set(oracle.calls)) == len(oracle.calls)


@pytest.mark.parametrize("most", range(14))
def test_at_the_cap_the_smallest_set_so_far_is_told(most: int) -> None:
    """It still gives B's bits; whether it is minimal, and what the rest does, is not claimed."""
    result = search(list(VALUES), Oracle(lambda s: {"c", "h"} <= s, most))
    sentence = described(result, VALUES)
    if most == 0:
        assert sentence == "The search ended before any differing setting was tried."
    else:
        assert {"c", "h"} <= set(result.cause)
        assert (result.minimal, result.rest_gives) == (False, None)
        assert sentence.endswith("It may not be minimal.")


def test_the_answer_names_cause_and_what_has_no_effect() -> None:
    """With both values of the cause; and that nothing explains it is an answer too."""
    values = {"env X": ("unset", "default"), "threads": ("1", "2")}
    one = Explanation(("env X",), True, ("threads",), "A")
    assert described(one, values) == "Cause: env X (unset → default). No effect here: threads."
    both = Explanation(("env X", "threads"), True, ())
    assert described(both, values) == "Cause: env X (unset → default), threads (1 → 2), together."
    none = Explanation((), True, ("env X", "threads"))
    sentence = described(none, values)
    assert sentence == "None of the differing settings explains the difference."


def test_a_mixture_has_what_is_named_as_b_has_it() -> None:
    """Of case, setting, recipe, variables and faults."""
    a = planned("A", CASE, Recipe(), ("draw-extra",))
    b = planned("B", f"{CASE}@threads=2+env=MKL_CBWR=AVX2", Recipe(lr=0.2), ("skip-batch",))
    one = mixed(a, b, frozenset({"env MKL_CBWR", "fault skip-batch", "lr"}))
    assert (one.config.threads, one.config.env) == (1, ("MKL_CBWR=AVX2",))
    assert (set(one.faults), one.recipe) == ({"draw-extra", "skip-batch"}, Recipe(lr=0.2))
    assert mixed(a, b, frozenset({"fault draw-extra"})).faults == ()


def test_a_switch_is_one_more_variable() -> None:
    """Beside those that the side sets."""
    side = planned("A", f"{CASE}@env=X=1", Recipe(), ())
    assert switched(side, SWITCHES[0]).config.env == ("MKL_CBWR=COMPATIBLE", "X=1")


def test_a_training_without_a_record_is_as_recorded() -> None:
    """Nothing is on record of a case that was only named."""
    assert matches_record(planned("A", CASE, Recipe(), ()), ["inputs", "epoch 0"])


@pytest.mark.parametrize("text", ["2", "0", "many", "1e3", ""])
def test_a_cap_below_the_first_trainings_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """A, B and B again are always trained: one line names the option, exit code 2."""
    monkeypatch.setattr("sys.argv", ["xorbench", "explain", CASE, CASE, "--max-trainings", text])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("xorbench: --max-trainings: must be")
