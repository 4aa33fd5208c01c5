"""The probe of the edges of float32: its own answers are right, and each backend gives them."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from universal_faults import flushing_subnormals

from xorbench.machine.universal import golden, probe, torch_backend
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.probe import GROUPS, ProbeCase
from xorbench.machine.universal.spec import Bits

ALL_CASES = [case for cases in GROUPS.values() for case in cases]
EXACT: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}
backends = pytest.mark.parametrize("name", ["numpy", "torch", "numba"])


def is_finite(bits: int) -> bool:
    """Whether a bit pattern is a number."""
    return bits & probe.INF != probe.INF


def exact(bits: int) -> Fraction:
    """The number that a finite bit pattern stands for, by integer arithmetic alone."""
    sign, exponent, significand = bits >> 31, bits >> 23 & 255, bits & (2**23 - 1)
    if exponent:
        significand, exponent = significand + 2**23, exponent - 1
    number = Fraction(significand) * Fraction(2) ** (exponent - 149)
    return -number if sign else number


def magnitude(number: Fraction) -> int:
    """The bit pattern nearest to a number's magnitude, ties to even, by bisection."""
    low, high = 0, probe.INF
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exact_or_overflow(middle) <= abs(number) else (low, middle)
    below, above = abs(number) - exact(low), exact_or_overflow(high) - abs(number)
    return low if (below, low % 2) < (above, high % 2) else high


def exact_or_overflow(bits: int) -> Fraction:
    """As ``exact``, with 2**128, where rounding overflows, for infinity."""
    return Fraction(2) ** 128 if bits == probe.INF else exact(bits)


def rounded(case: ProbeCase) -> int:
    """The bit pattern that a case of finite operands must give."""
    a, b, c = exact(case.a), exact(case.b), exact(case.c)
    if case.operation == "mul_add":
        product = magnitude(a * b)
        signed = exact(product) * (-1 if a * b < 0 else 1)
        return with_sign(signed + c)
    return with_sign(EXACT[case.operation](a, b))


def with_sign(number: Fraction) -> int:
    """The nearest bit pattern, its sign among it."""
    return magnitude(number) | (0x80000000 if number < 0 else 0)


@pytest.mark.parametrize("group", ["subnormal", "rounding", "division"])
def test_expected_results_are_the_exact_ones_rounded_once(group: str) -> None:
    """Each case with finite operands and a result other than a signed zero, by exact fractions."""
    checked = 0
    for case in GROUPS[group][:60]:
        arithmetic = case.operation in {*EXACT, "mul_add"}
        divides_by_zero = case.operation == "div" and case.b & 0x7FFFFFFF == 0
        finite = all(map(is_finite, (case.a, case.b, case.c)))
        if arithmetic and finite and not divides_by_zero and case.expected != probe.NEG_ZERO:
            assert rounded(case) == case.expected, case.name
            checked += 1
    assert checked >= 9


def test_each_case_has_a_name_of_its_own() -> None:
    """A failure that names a case names one case."""
    assert len(ALL_CASES) == len({case.name for case in ALL_CASES})


def test_reciprocals_would_be_seen() -> None:
    """Every fourth or so of the random quotients tells division from multiplication by 1/b."""
    cases = probe.quotients()
    a, b, right = (
        np.array([getattr(case, field) for case in cases], dtype=np.uint32).view(np.float32)
        for field in ("a", "b", "expected")
    )
    wrong = np.count_nonzero(a * (np.float32(1) / b) != right) / len(cases)
    assert 0.15 < wrong < 0.45


@pytest.mark.parametrize("group", GROUPS)
def test_golden_digest_is_that_of_the_expected_results(group: str) -> None:
    """The file agrees with the table of cases."""
    assert golden.load().probes[group] == probe.sha256(probe.expected(GROUPS[group]))


@backends
def test_backend_passes_every_case(name: str) -> None:
    """No group misses a case."""
    probed = probe.probe(BACKENDS[name].load().evaluate)
    assert list(GROUPS) == [one.group for one in probed]
    assert [miss for one in probed for miss in one.misses] == []
    assert all(one.passed for one in probed)


def test_flushing_of_subnormals_is_caught_and_named() -> None:
    """With torch.set_flush_denormal(True) the subnormal group fails, alone, and names its cases."""
    with flushing_subnormals() as possible:
        if not possible:
            pytest.skip("this processor cannot flush subnormals")
        probed = {one.group: one for one in probe.probe(torch_backend.evaluate)}
    assert [group for group, one in probed.items() if not one.passed] == ["subnormal"]
    misses = {miss.case.name for miss in probed["subnormal"].misses}
    assert {"smallest + smallest", "smallest normal * 0.5", "smallest == 0"} <= misses


def test_flushing_ends_with_its_block() -> None:
    """The setting is the processor's; it must not outlive the fault."""
    with flushing_subnormals():
        pass
    assert all(one.passed for one in probe.probe(torch_backend.evaluate))


def test_one_wrong_place_is_enough() -> None:
    """A case that fails in one of its places, as in a vector's tail, is a miss with that result."""
    right = BACKENDS["numpy"].load().evaluate

    def spoiled(operation: str, *operands: Bits) -> Bits:
        out = right(operation, *operands).copy()
        if operation == "gt":
            out[-1] ^= 1
        return out

    misses = [miss for one in probe.probe(spoiled) for miss in one.misses]
    # "gt" is asked for once a group that has it, and its last place is its last case's
    assert {"NaN > 1", "smallest > 0"} == {miss.case.name for miss in misses}
    assert "NaN > 1 (gt): expected 00000000, got 00000001" in {str(miss) for miss in misses}
