"""The probe of float32 edge cases: expected results are correct, and each backend gives them."""

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
    """Whether a bit pattern is a finite number."""
    return bits & probe.INF != probe.INF


def exact(bits: int) -> Fraction:
    """The value of a finite bit pattern, by integer arithmetic."""
    sign, exponent, significand = bits >> 31, bits >> 23 & 255, bits & (2**23 - 1)
    if exponent:
        significand, exponent = significand + 2**23, exponent - 1
    number = Fraction(significand) * Fraction(2) ** (exponent - 149)
    return -number if sign else number


def magnitude(number: Fraction) -> int:
    """The bit pattern nearest to the magnitude of a number, ties to even, by bisection."""
    low, high = 0, probe.INF
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exact_or_overflow(middle) <= abs(number) else (low, middle)
    below, above = abs(number) - exact(low), exact_or_overflow(high) - abs(number)
    return low if (below, low % 2) < (above, high % 2) else high


def exact_or_overflow(bits: int) -> Fraction:
    """Like ``exact``, with 2**128, where rounding overflows, for infinity."""
    return Fraction(2) ** 128 if bits == probe.INF else exact(bits)


def rounded(case: ProbeCase) -> int:
    """The expected bit pattern of a case with finite operands."""
    a, b, c = exact(case.a), exact(case.b), exact(case.c)
    if case.operation == "mul_add":
        product = magnitude(a * b)
        signed = exact(product) * (-1 if a * b < 0 else 1)
        return with_sign(signed + c)
    return with_sign(EXACT[case.operation](a, b))


def with_sign(number: Fraction) -> int:
    """The nearest bit pattern with its sign."""
    return magnitude(number) | (0x80000000 if number < 0 else 0)


@pytest.mark.parametrize("group", ["subnormal", "rounding", "division"])
def test_expected_results_are_the_exact_ones_rounded_once(group: str) -> None:
    """They equal exact fractions for cases with finite operands and without a zero result."""
    checked = 0
    for case in GROUPS[group][:60]:
        arithmetic = case.operation in {*EXACT, "mul_add"}
        divides_by_zero = case.operation == "div" and case.b & 0x7FFFFFFF == 0
        finite = all(map(is_finite, (case.a, case.b, case.c)))
        if arithmetic and finite and not divides_by_zero and case.expected != probe.NEG_ZERO:
            assert rounded(case) == case.expected, case.name
            checked += 1
    assert checked >= 9


def test_each_case_has_a_unique_name() -> None:
    """A failure names exactly one case."""
    assert len(ALL_CASES) == len({case.name for case in ALL_CASES})


def test_reciprocals_would_be_detected() -> None:
    """About a quarter of the random quotients differ from a multiplication by 1/b."""
    cases = probe.quotients()
    a, b, right = (
        np.array([getattr(case, field) for case in cases], dtype=np.uint32).view(np.float32)
        for field in ("a", "b", "expected")
    )
    wrong = np.count_nonzero(a * (np.float32(1) / b) != right) / len(cases)
    assert 0.15 < wrong < 0.45


@pytest.mark.parametrize("group", GROUPS)
def test_golden_digest_is_that_of_the_expected_results(group: str) -> None:
    """The file equals the table of cases."""
    assert golden.load().probes[group] == probe.sha256(probe.expected(GROUPS[group]))


@backends
def test_backend_passes_every_case(name: str) -> None:
    """No group has a wrong case."""
    probed = probe.probe(BACKENDS[name].load().evaluate)
    assert list(GROUPS) == [row.group for row in probed]
    assert [miss for row in probed for miss in row.misses] == []
    assert all(row.passed for row in probed)


def test_flushing_of_subnormals_is_caught_and_named() -> None:
    """With torch.set_flush_denormal(True) only the subnormal group fails and names its cases."""
    with flushing_subnormals() as possible:
        if not possible:
            pytest.skip("this processor cannot flush subnormals")
        probed = {row.group: row for row in probe.probe(torch_backend.evaluate)}
    assert [group for group, row in probed.items() if not row.passed] == ["subnormal"]
    misses = {miss.case.name for miss in probed["subnormal"].misses}
    assert {"smallest + smallest", "smallest normal * 0.5", "smallest == 0"} <= misses


def test_flushing_ends_with_its_block() -> None:
    """The setting affects the processor and must be restored."""
    with flushing_subnormals():
        pass
    assert all(row.passed for row in probe.probe(torch_backend.evaluate))


def test_one_wrong_copy_is_enough() -> None:
    """A case that fails in one of its copies, such as a vector's tail, is wrong."""
    correct = BACKENDS["numpy"].load().evaluate

    def faulty(operation: str, *operands: Bits) -> Bits:
        out = correct(operation, *operands).copy()
        if operation == "gt":
            out[-1] ^= 1
        return out

    misses = [miss for row in probe.probe(faulty) for miss in row.misses]
    # "gt" is evaluated once per group, and its last element belongs to the last case.
    assert {"NaN > 1", "smallest > 0"} == {miss.case.name for miss in misses}
    assert "NaN > 1 (gt): expected 00000000, got 00000001" in {str(miss) for miss in misses}
