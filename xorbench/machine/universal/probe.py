"""Edge cases of float32 arithmetic that the training never reaches, with their expected results.

The training contains no subnormals, infinities or zero divisors, so a machine that computes these
incorrectly could still give the golden digest. Each case is one operation on given bit patterns,
and the bit pattern that IEEE 754 requires; each group of cases also has a digest of its results.

Not tested, because IEEE 754, NumPy and PyTorch do not define it and healthy machines differ: the
sign and payload of a NaN (written as 7fc00000 here), and the order of +0 and -0 in min and max.
Clipping a NaN is not tested either, since the training has none.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import Bits
from xorbench.machine.universal.trained import Evaluate

REPEATS: Final = 37
"""Copies of each case, so that it occurs in the vector body and in the scalar tail."""
RANDOM_QUOTIENTS: Final = 1000

ZERO, NEG_ZERO, ONE, NEG_ONE, TWO, HALF, THREE = (
    0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x40000000, 0x3F000000, 0x40400000,
)  # fmt: skip
INF, NEG_INF, NAN, MAX, NEG_MAX = 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF, 0xFF7FFFFF
TINY, NEG_TINY, LAST_SUBNORMAL, FIRST_NORMAL = 0x00000001, 0x80000001, 0x007FFFFF, 0x00800000
TRUE, FALSE = ONE, ZERO


class ProbeCase(NamedTuple):
    """One operation on bit patterns, and the expected bit pattern."""

    name: str
    operation: str
    a: int
    b: int
    expected: int
    c: int = 0


SUBNORMAL: Final = (
    ProbeCase("smallest + smallest", "add", TINY, TINY, 0x00000002),
    ProbeCase("largest subnormal + smallest is normal", "add", LAST_SUBNORMAL, TINY, FIRST_NORMAL),
    ProbeCase("smallest normal - smallest", "sub", FIRST_NORMAL, TINY, LAST_SUBNORMAL),
    ProbeCase("difference of normals is subnormal", "sub", 0x00C00000, FIRST_NORMAL, 0x00400000),
    ProbeCase("smallest normal * 0.5", "mul", FIRST_NORMAL, HALF, 0x00400000),
    ProbeCase("-smallest normal * 0.5", "mul", 0x80800000, HALF, 0x80400000),
    ProbeCase("largest subnormal * 2 is normal", "mul", LAST_SUBNORMAL, TWO, 0x00FFFFFE),
    ProbeCase("smallest * 2**24 is normal", "mul", TINY, 0x4B800000, 0x01000000),
    ProbeCase("smallest * 0.5 ties to zero", "mul", TINY, HALF, ZERO),
    ProbeCase("3 smallest * 0.5 ties to 2 smallest", "mul", 0x00000003, HALF, 0x00000002),
    ProbeCase("smallest normal / 2", "div", FIRST_NORMAL, TWO, 0x00400000),
    ProbeCase("smallest / smallest", "div", TINY, TINY, ONE),
    ProbeCase("1 / 2**127", "div", ONE, 0x7F000000, 0x00400000),
    ProbeCase("1 / largest subnormal", "div", ONE, LAST_SUBNORMAL, 0x7E800001),
    ProbeCase("smallest * 1 + smallest", "mul_add", TINY, ONE, 0x00000002, c=TINY),
    ProbeCase("smallest > 0", "gt", TINY, ZERO, TRUE),
    ProbeCase("-smallest < 0", "lt", NEG_TINY, ZERO, TRUE),
    ProbeCase("smallest == 0", "eq", TINY, ZERO, FALSE),
    ProbeCase("smallest != 0", "ne", TINY, ZERO, TRUE),
    ProbeCase("min(smallest, 1)", "min", TINY, ONE, TINY),
    ProbeCase("max(smallest, -1)", "max", TINY, NEG_ONE, TINY),
    ProbeCase("clip smallest", "clip", TINY, ZERO, TINY),
)

ROUNDING: Final = (
    ProbeCase("2**24 + 1 ties to even", "add", 0x4B800000, ONE, 0x4B800000),
    ProbeCase("2**24 + 3 ties to even", "add", 0x4B800000, THREE, 0x4B800002),
    ProbeCase("1 - 2**-25 ties to even", "sub", ONE, 0x33000000, ONE),
    ProbeCase("largest + largest overflows", "add", MAX, MAX, INF),
    ProbeCase("largest * 2 overflows", "mul", MAX, TWO, INF),
    ProbeCase("1 + -1 is +0", "add", ONE, NEG_ONE, ZERO),
    ProbeCase("-0 + -0 is -0", "add", NEG_ZERO, NEG_ZERO, NEG_ZERO),
    ProbeCase("-0 + +0 is +0", "add", NEG_ZERO, ZERO, ZERO),
    ProbeCase("inf - inf is NaN", "sub", INF, INF, NAN),
    ProbeCase("0 * inf is NaN", "mul", ZERO, INF, NAN),
    ProbeCase("(1 + 2**-12)**2 - (1 + 2**-11) in two roundings", "mul_add", 0x3F800800, 0x3F800800,
         ZERO, c=0xBF801000),
    ProbeCase("(1 + 2**-23)(1 - 2**-23) - 1 in two roundings", "mul_add", 0x3F800001, 0x3F7FFFFE,
         ZERO, c=NEG_ONE),
    ProbeCase("0.1*0.1 - 0.01 in two roundings", "mul_add", 0x3DCCCCCD, 0x3DCCCCCD,
         0x30800000, c=0xBC23D70A),
)  # fmt: skip

MIN_MAX: Final = (
    ProbeCase("min(1, 2)", "min", ONE, TWO, ONE),
    ProbeCase("min(2, 1)", "min", TWO, ONE, ONE),
    ProbeCase("max(1, 2)", "max", ONE, TWO, TWO),
    ProbeCase("max(-1, 1)", "max", NEG_ONE, ONE, ONE),
    ProbeCase("min(-inf, -largest)", "min", NEG_INF, NEG_MAX, NEG_INF),
    ProbeCase("max(inf, largest)", "max", INF, MAX, INF),
    ProbeCase("max(-inf, -largest)", "max", NEG_INF, NEG_MAX, NEG_MAX),
    ProbeCase("min(-0, -0)", "min", NEG_ZERO, NEG_ZERO, NEG_ZERO),
    ProbeCase("min(NaN, 1)", "min", NAN, ONE, NAN),
    ProbeCase("min(1, NaN)", "min", ONE, NAN, NAN),
    ProbeCase("max(NaN, 1)", "max", NAN, ONE, NAN),
    ProbeCase("max(1, NaN)", "max", ONE, NAN, NAN),
    ProbeCase("max(NaN, inf)", "max", NAN, INF, NAN),
    ProbeCase("clip 5", "clip", 0x40A00000, ZERO, 0x409CCCCD),
    ProbeCase("clip -5", "clip", 0xC0A00000, ZERO, 0xC09CCCCD),
    ProbeCase("clip just below the limit", "clip", 0x409CCCCC, ZERO, 0x409CCCCC),
    ProbeCase("clip just above the limit", "clip", 0x409CCCCE, ZERO, 0x409CCCCD),
    ProbeCase("clip inf", "clip", INF, ZERO, 0x409CCCCD),
    ProbeCase("clip -inf", "clip", NEG_INF, ZERO, 0xC09CCCCD),
    ProbeCase("clip -0", "clip", NEG_ZERO, ZERO, NEG_ZERO),
)

COMPARISON: Final = (
    ProbeCase("1 < 2", "lt", ONE, TWO, TRUE),
    ProbeCase("2 < 1", "lt", TWO, ONE, FALSE),
    ProbeCase("1 <= 1", "le", ONE, ONE, TRUE),
    ProbeCase("1 >= 1", "ge", ONE, ONE, TRUE),
    ProbeCase("1 > 1", "gt", ONE, ONE, FALSE),
    ProbeCase("-2 < -1", "lt", 0xC0000000, NEG_ONE, TRUE),
    ProbeCase("1 < the next number", "lt", ONE, 0x3F800001, TRUE),
    ProbeCase("1 == the next number", "eq", ONE, 0x3F800001, FALSE),
    ProbeCase("-0 == +0", "eq", NEG_ZERO, ZERO, TRUE),
    ProbeCase("-0 != +0", "ne", NEG_ZERO, ZERO, FALSE),
    ProbeCase("-0 < +0", "lt", NEG_ZERO, ZERO, FALSE),
    ProbeCase("-0 >= +0", "ge", NEG_ZERO, ZERO, TRUE),
    ProbeCase("inf == inf", "eq", INF, INF, TRUE),
    ProbeCase("-inf < -largest", "lt", NEG_INF, NEG_MAX, TRUE),
    ProbeCase("inf > largest", "gt", INF, MAX, TRUE),
    ProbeCase("NaN < 1", "lt", NAN, ONE, FALSE),
    ProbeCase("NaN <= 1", "le", NAN, ONE, FALSE),
    ProbeCase("NaN > 1", "gt", NAN, ONE, FALSE),
    ProbeCase("NaN >= 1", "ge", NAN, ONE, FALSE),
    ProbeCase("NaN == NaN", "eq", NAN, NAN, FALSE),
    ProbeCase("NaN != NaN", "ne", NAN, NAN, TRUE),
)

DIVISION: Final = (
    ProbeCase("1 / 3", "div", ONE, THREE, 0x3EAAAAAB),
    ProbeCase("2 / 3", "div", TWO, THREE, 0x3F2AAAAB),
    ProbeCase("1 / 10", "div", ONE, 0x41200000, 0x3DCCCCCD),
    ProbeCase("1 / 0", "div", ONE, ZERO, INF),
    ProbeCase("-1 / 0", "div", NEG_ONE, ZERO, NEG_INF),
    ProbeCase("1 / -0", "div", ONE, NEG_ZERO, NEG_INF),
    ProbeCase("0 / 0", "div", ZERO, ZERO, NAN),
    ProbeCase("inf / inf", "div", INF, INF, NAN),
    ProbeCase("1 / inf", "div", ONE, INF, ZERO),
    ProbeCase("1 / -inf", "div", ONE, NEG_INF, NEG_ZERO),
    ProbeCase("largest / 0.5 overflows", "div", MAX, HALF, INF),
    ProbeCase("largest / largest", "div", MAX, MAX, ONE),
)


def quotients() -> tuple[ProbeCase, ...]:
    """Random quotients between 0.5 and 2, rounded correctly by integer arithmetic.

    Division by multiplying with a reciprocal gets about a quarter of them wrong in the last bit.
    """
    words = spec.u64(spec.key("probe-division", 0), 0, 2 * RANDOM_QUOTIENTS) >> np.uint64(41)
    significands = [int(word) + 2**23 for word in words]
    pairs = zip(significands[::2], significands[1::2], strict=True)
    return tuple(_quotient(i, a, b) for i, (a, b) in enumerate(pairs))


def _quotient(i: int, a: int, b: int) -> ProbeCase:
    """The i-th case: a / b for integers of 24 bits, whose quotient is never a tie."""
    shift, exponent = (23, 127) if a >= b else (24, 126)
    whole, rest = divmod(a << shift, b)
    nearest = whole + (2 * rest > b)
    expected = (exponent << 23) + nearest - 2**23  # a full significand carries into the exponent
    whole_exponent = 126 + 24  # exponent field of integers of 24 bits
    a_bits, b_bits = ((whole_exponent << 23) + number - 2**23 for number in (a, b))
    return ProbeCase(f"random quotient {i}: {a} / {b}", "div", a_bits, b_bits, expected)


GROUPS: Final[dict[str, tuple[ProbeCase, ...]]] = {
    "subnormal": SUBNORMAL,
    "rounding": ROUNDING,
    "division": (*DIVISION, *quotients()),
    "min-max": MIN_MAX,
    "comparison": COMPARISON,
}
"""Groups of cases by name; a group's digest covers its cases in this order."""


@dataclass(frozen=True)
class Miss:
    """A case with a wrong result, and its actual bit pattern."""

    case: ProbeCase
    actual: int

    def __str__(self) -> str:
        name, expected = self.case.name, self.case.expected
        return f"{name} ({self.case.operation}): expected {expected:08x}, got {self.actual:08x}"


@dataclass(frozen=True)
class Probed:
    """One group's outcome: the digest of all its results, and the wrong cases."""

    group: str
    sha256: str
    expected_sha256: str
    misses: tuple[Miss, ...]

    @property
    def passed(self) -> bool:
        """Whether all results are correct."""
        return self.sha256 == self.expected_sha256


def probe(evaluate: Evaluate) -> tuple[Probed, ...]:
    """Probe one backend on one device by group."""
    return tuple(_probed(group, cases, evaluate) for group, cases in GROUPS.items())


def expected(cases: tuple[ProbeCase, ...]) -> Bits:
    """The expected bit patterns of the cases, [REPEATS, n]."""
    return np.tile(np.array([case.expected for case in cases], dtype=np.uint32), (REPEATS, 1))


def results(cases: tuple[ProbeCase, ...], evaluate: Evaluate) -> Bits:
    """The actual bit patterns of the cases, [REPEATS, n]; any NaN is written as 7fc00000."""
    out = np.empty((REPEATS, len(cases)), dtype=np.uint32)
    for operation in dict.fromkeys(case.operation for case in cases):
        indices = [i for i, case in enumerate(cases) if case.operation == operation]
        operands = [(cases[i].a, cases[i].b, cases[i].c) for i in indices]
        a, b, c = (np.tile(column, REPEATS) for column in np.array(operands, dtype=np.uint32).T)
        out[:, indices] = evaluate(operation, a, b, c).reshape(REPEATS, -1)
    out[(out & np.uint32(0x7FFFFFFF)) > INF] = NAN
    return out


def sha256(values: Bits) -> str:
    """SHA-256 over the little-endian result bytes."""
    return hashlib.sha256(values.astype("<u4").tobytes()).hexdigest()


def _probed(group: str, cases: tuple[ProbeCase, ...], evaluate: Evaluate) -> Probed:
    actual, golden = results(cases, evaluate), expected(cases)
    misses = []
    for i in np.flatnonzero((actual != golden).any(axis=0)):
        wrong = actual[:, i] != golden[:, i]
        misses.append(Miss(cases[i], int(actual[wrong, i][0])))
    return Probed(group, sha256(actual), sha256(golden), tuple(misses))
