"""The exact probes: their right answers, what they compare, and that a fault of each is found."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from xorbench.machine.probes import burn, consistency, conv, exact, matmul
from xorbench.machine.probes.burn import NAMED, DeviceBurnIn, ProductUnit
from xorbench.machine.probes.check import check
from xorbench.machine.probes.exact import SHOWN, ExactCase, WrongElement, difference, exact_settings
from xorbench.machine.probes.golden import cases_of, golden, right_digests
from xorbench.machine.probes.integers import entries, largest_entry, scattered
from xorbench.machine.probes.memory import MemoryRegion, compiled
from xorbench.machine.probes.product import Products
from xorbench.machine.probes.rounding import FORMATS, decoded, rounded
from xorbench.machine.probes.table import PROBES
from xorbench.records.schema.golden import Fact, ProbeRecord
from xorbench.xor.checks.devices import probed

CPU = torch.device("cpu")
TORCH = {name: list(cases_of(name)) for name in golden()}


# Right answers


def test_the_golden_digests_are_those_of_integer_arithmetic() -> None:
    """NumPy's whole numbers give every digest of the package."""
    assert right_digests() == golden()


@pytest.mark.parametrize(("capability", "threads"), [("default", "1"), ("avx2", "2")])
def test_pytorch_gives_them_at_each_instruction_set_and_thread_count(
    capability: str, threads: str
) -> None:
    """A sound CPU has the golden digests, however it is told to compute."""
    variables = {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, "-m", "xorbench.machine.probes.golden", "--check"],
        check=False,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "cpu: matmul: 178 results" in done.stdout


def test_every_probe_with_cases_has_golden_digests() -> None:
    """And no other has."""
    assert set(golden()) == {name for name, probe in PROBES.items() if probe.cases}


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_rounding_is_what_numpy_does(name: str) -> None:
    """Of whole numbers times powers of two, subnormal and overflowing ones too."""
    drawn = np.random.default_rng(0)
    m = drawn.integers(-(2**40), 2**40, 100_000)
    e = drawn.integers(-70, 0, 100_000) if name == "float16" else drawn.integers(-190, 90, 100_000)
    with np.errstate(over="ignore"):
        right = np.ldexp(m.astype(np.float64), e).astype(name)
    kind = FORMATS[name]
    assert np.array_equal(rounded(m, e, kind), right.view(f"u{kind.width // 8}").astype(np.uint64))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_decoding_and_rounding_are_each_others_inverse(name: str) -> None:
    """Every finite value comes back with its own bits."""
    kind = FORMATS[name]
    positive = np.arange(1, kind.largest + 1, dtype=np.uint64)
    assert np.array_equal(rounded(*decoded(positive, kind), kind), positive)


def test_a_tie_goes_to_the_even_neighbour() -> None:
    """257 lies between 256 and 258 in bfloat16, 259 between 258 and 260."""
    bits = rounded(np.array([257, 259]), 0, FORMATS["bfloat16"])
    assert [hex(b) for b in bits.tolist()] == [hex(0x4380), hex(0x4382)]


@pytest.mark.parametrize("case", TORCH["matmul"], ids=lambda case: case.name)
def test_no_partial_sum_of_a_product_can_be_rounded(case: ExactCase) -> None:
    """The sum of all absolute values is exact where sums are held, or there is one term alone."""
    arrays = case.make()
    a, b, c = (np.abs(arrays[name]) for name in "abc")
    most = (a @ b).max() + (c.max() if c.any() else 0)
    alone = (a != 0).sum(-1).max() == 1 and not c.any()
    limit = 2 ** matmul.SUMMED[case.name.partition(" ")[0]]
    assert most <= limit or alone
    assert not alone or most < 2**56


@pytest.mark.parametrize("convolve", conv.CONVOLVES, ids=str)
def test_the_integer_convolution_is_pytorchs_in_float64(convolve: conv.Convolve) -> None:
    """Forward and both gradients: an answer from another source than the one that is compared."""
    for case in TORCH["conv"]:
        if case.name.startswith(f"float64 {convolve},"):
            arrays = case.make()
            with exact_settings():
                found = exact.tensor_bits(case.compute(arrays, CPU))
            assert np.array_equal(found, case.right(arrays))


def test_a_scattered_matrix_has_one_entry_a_row_and_at_most_one_a_column() -> None:
    """What is multiplied by it is never summed."""
    found = scattered("t", 0, 40, entries("t", 0, (31,), 9)) != 0
    assert (found.sum(1) == 1).all()
    assert (found.sum(0) <= 1).all()


def test_entries_are_within_their_limit_and_never_zero() -> None:
    """Both ends occur."""
    drawn = entries("t", 0, (10_000,), 3)
    assert sorted(set(drawn.tolist())) == [-3, -2, -1, 1, 2, 3]
    assert largest_entry(4096, 2**24, 4096) == 64
    with pytest.raises(ValueError, match="does not stay within"):
        largest_entry(300, 256, 8)


# Faults are found and named


def broken(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Have an operator flip the lowest bit of one element of its result."""
    sound = getattr(module, name)

    def faulty(*args: Any, **options: Any) -> Any:
        found = sound(*args, **options)
        found = found.clone()
        words = exact.WIDTHS[found.element_size()]
        found.view(-1).view(words)[found.numel() // 2] ^= 1
        return found

    monkeypatch.setattr(module, name, faulty)


@pytest.mark.parametrize(
    ("probe", "module", "name", "said"),
    [
        ("matmul", torch, "mm", "float32 dense mm 31×127×7"),
        ("matmul", torch, "baddbmm", "bfloat16 dense baddbmm"),
        ("matmul", torch, "_int_mm", "int8 dense int_mm"),
        ("matmul", torch, "_scaled_mm", "float8_e5m2 sparse scaled_mm"),
        ("conv", conv, "gradient", "float16 conv2d 9×7 by 3×3 padding 1, gradient of weight"),
        ("reduction", torch.Tensor, "cumsum", "bfloat16 cumulative sum"),
        ("reduction", torch, "bincount", "int64 histogram"),
        ("scatter", torch.Tensor, "index_add", "float64 index_add"),
        ("scatter", torch.Tensor, "scatter_add", "float16 scatter_add"),
    ],
)
def test_one_wrong_bit_of_one_result_is_found_and_named(
    probe: str, module: Any, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case, the element, both bit patterns and the bit."""
    broken(monkeypatch, module, name)
    found = check(probe, "cpu")
    wrong = next(fact for fact in found.wrong if fact.what.startswith(said))
    assert "1 of " in wrong.actual
    assert "(bits 0" in wrong.actual


def test_a_conversion_that_truncates_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Towards zero in place of to nearest even: wrong at half of the boundaries."""
    sound = torch.Tensor.to

    def truncating(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if args == (torch.bfloat16,) and self.dtype == torch.float32 and self.numel() > 10_000:
            kept = self.view(torch.int32) & -65536
            return sound(kept.view(torch.float32), torch.bfloat16)
        return sound(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", truncating)
    assert [fact.what for fact in check("conversion", "cpu").wrong] == ["float32 to bfloat16"]


def test_rows_that_come_out_differently_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU it fails; on a device that nobody has measured it is left open."""
    broken(monkeypatch, torch, "tanh")
    monkeypatch.setattr(
        consistency, "FUNCTIONS", (consistency.FUNCTIONS[0]._replace(compute=torch.tanh),)
    )
    assert [fact.what for fact in check("consistency", "cpu").wrong] == ["tanh"]
    monkeypatch.setattr(consistency, "MEASURED", ())
    found = check("consistency", "cpu")
    assert (found.wrong, [fact.what for fact in found.unjudged]) == ([], ["tanh"])


def test_a_function_that_is_wrong_in_every_row_alike_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal is not right: the first row is compared with float64."""
    wrong = consistency.FUNCTIONS[1]._replace(compute=lambda x: x.exp() * 1.0001)
    monkeypatch.setattr(consistency, "FUNCTIONS", (wrong,))
    assert "off" in check("consistency", "cpu").wrong[0].actual


def test_what_pytorch_lacks_is_skipped_and_what_fails_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator that is not there has a reason; one that raises otherwise ends the probe."""

    def lacking(*_: Any, **__: Any) -> None:
        raise RuntimeError("\"int_mm\" not implemented for 'Char'")

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "_int_mm", lacking)
    found = check("matmul", "cpu")
    assert [one.partition(":")[0] for one in found.skipped if "int_mm" in one] == [
        "int8 dense int_mm 32×256×24",
        "int8 sparse int_mm 32×256×24",
    ]
    monkeypatch.setattr(torch, "_int_mm", failing)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        check("matmul", "cpu")


def test_reduced_precision_is_off_inside_and_as_it_was_afterwards() -> None:
    """PyTorch's flags are the user's own again."""
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_settings():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", ["int64", "float64", "bfloat16"])
def test_computing_in_place_leaves_the_numbers_as_they_are(dtype: str) -> None:
    """A collective writes to its operand, and its right answer is worked out afterwards."""
    given = entries("t", 0, (9,), 5)
    before = given.copy()
    exact.tensor(given, dtype, CPU).zero_()
    assert np.array_equal(given, before)


def test_a_case_whose_shape_is_wrong_says_so() -> None:
    """It is no list of elements."""
    case = TORCH["matmul"][0]
    cut = ExactCase(case.name, case.dtype, case.make, case.right, lambda *_: torch.zeros(3))
    assert difference(cut, CPU, "x") == "shape [3] in place of [31, 7]"


def test_a_wrong_element_names_its_bits() -> None:
    """Place, both patterns, the bits that differ."""
    said = str(WrongElement((3, 5), 0x3F800000, 0x3F800009, 32))
    assert said == "element [3, 5]: expected 3f800000, got 3f800009 (bits 0, 3)"


# Memory


@pytest.fixture(params=["compiled", "by operators"])
def region(request: pytest.FixtureRequest) -> MemoryRegion:
    """Two MiB, by either march."""
    return MemoryRegion(CPU, 2 << 20, compiled() if request.param == "compiled" else None)


def test_sound_memory_is_read_back_in_every_round(region: MemoryRegion) -> None:
    """Four rounds, and the copies."""
    assert [one for _ in range(4) for one in [*region.march(), *region.copy()]] == []


@pytest.mark.parametrize("bit", [0, 31, 63])
def test_a_flipped_bit_is_named_and_the_next_round_is_clean(region: MemoryRegion, bit: int) -> None:
    """Its place, and that bit alone."""
    next(region.march(), None)
    region.flip(70_001, bit)
    (wrong,) = region.march()
    (element,) = wrong.first
    assert (wrong.wrongs, element.place, element.flipped()) == (1, (70_001,), [bit])
    assert list(region.march()) == []


@pytest.mark.parametrize("value", [0, 1])
def test_a_stuck_bit_is_found_within_two_rounds(region: MemoryRegion, value: int) -> None:
    """Each bit is held as 0 and as 1."""
    found = 0
    for _ in range(2):
        word = region.words.view(-1)[123]
        region.words.view(-1)[123] = word | 4 if value else word & ~4
        found += sum(one.wrongs for one in region.march())
    assert found == 1


def test_where_every_word_is_wrong_few_are_named_and_all_are_counted(region: MemoryRegion) -> None:
    """A region that reads as zeros costs no more than to read it."""
    region.words.zero_()
    found = list(region.march())
    assert sum(one.wrongs for one in found) >= region.words.numel() - 1
    assert max(len(one.first) for one in found) == SHOWN
    assert f"{found[0].wrongs} words, element" in str(found[0])


def test_two_addresses_that_are_one_are_found(region: MemoryRegion) -> None:
    """What was written to one is read from the other."""
    flat = region.words.view(-1)
    flat[5] = flat[200_000]
    assert [one.place for (_, _, first) in region.march() for one in first] == [(5,)]


def test_both_marches_write_the_same_words() -> None:
    """The compiled one and PyTorch's operators have one pattern."""
    some = [MemoryRegion(CPU, 1 << 20, march) for march in (compiled(), None)]
    for _ in range(3):
        assert torch.equal(some[0].words, some[1].words)
        assert [list(one.march()) for one in some] == [[], []]


# Large products


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int8"])
def test_large_products_are_right_in_every_kind_of_round(dtype: str) -> None:
    """Dense, sparse, and whole significands on either side, each with its own scaling."""
    products = Products(dtype, 256, CPU)
    rounds = [products.round(number, 2) for number in range(2 * len(products.kinds))]
    assert {one.kind for one in rounds} == set(matmul.kinds(dtype))
    assert [one.wrong for one in rounds] == [[]] * len(rounds)


def test_the_right_answer_of_a_round_is_that_of_float64() -> None:
    """An independent product of the same factors, in NumPy."""
    products = Products("float32", 256, CPU)
    for number in range(4):
        products.round(number, 1)
        left, right, answer = (part.double().numpy() for part in products.sides())
        assert np.array_equal(left @ right.T, answer)


def test_a_host_that_multiplies_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own product is proved by integers: one wrong element, and there is no probe."""
    sound = np.matmul

    def faulty(a: Any, b: Any) -> Any:
        found = sound(a, b)
        found[17, 31] += 1
        return found

    monkeypatch.setattr(np, "matmul", faulty)
    with pytest.raises(ArithmeticError, match="multiplies wrong"):
        Products("float32", 256, CPU)


def test_each_round_has_another_right_answer() -> None:
    """A stale result of the round before is no right one."""
    products = Products("float32", 256, CPU)
    answers = []
    for number in (0, 4, 8):
        products.round(number, 1)
        answers.append(products.sides()[2].clone())
    assert not any(torch.equal(answers[0], other) for other in answers[1:])


@pytest.mark.parametrize(("every", "again"), [(1, True), (2, False)])
def test_a_wrong_product_says_whether_it_comes_again(
    every: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stuck bit does; one that flips now and then is right when done again."""
    calls = iter(range(10**6))
    sound = torch.mm

    def faulty(*args: Any, **options: Any) -> torch.Tensor:
        found = sound(*args, **options)
        if next(calls) % every == 0:
            found[7, 9] += 1
        return found

    monkeypatch.setattr(torch, "mm", faulty)
    (wrong,) = Products("float32", 256, CPU).round(0, 1).wrong
    assert (wrong.element.place, wrong.again) == ((7, 9), again)


def test_where_every_element_is_wrong_few_are_named_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device whose products are all wrong is told of as soon as one of which one element is."""
    sound = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *args, **options: sound(*args, **options).neg_())
    done = Products("float32", 256, CPU).round(0, 1)
    assert (done.wrongs, len(done.wrong)) == (256 * 256, SHOWN)
    turn = ProductUnit(Products("float32", 256, CPU), 1, 0.0).turn(0)
    assert (turn.wrongs, len(turn.wrong)) == (256 * 256, NAMED)


def test_a_comparison_that_sees_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round flips a bit on purpose: a device whose comparison is broken cannot pass."""
    unit = ProductUnit(Products("float32", 256, CPU), 1, 0.0)
    assert unit.turn(0).wrongs == 0
    monkeypatch.setattr(Products, "_differs", lambda _self: False)
    turn = unit.turn(1)
    assert "does not see bit" in turn.wrong[0].what


def test_a_library_that_stores_narrow_partial_sums_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many elements a little off, each time alike: dense products are left out, with a note."""
    sound = torch.mm

    def split(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        half = a.shape[1] // 2
        parts = sound(a[:, :half], b[:half]), sound(a[:, half:], b[half:])
        return out.copy_(parts[0] + parts[1])

    monkeypatch.setattr(torch, "mm", split)
    monkeypatch.setattr(burn, "TYPES", ("float32", "bfloat16"))
    monkeypatch.setattr(burn, "SLOWER", 1e9)
    found = DeviceBurnIn("cpu", ["matmul"], 0.1, None, {})
    assert [note for note in found.notes if "partial sums are stored in bfloat16" in note]
    assert not [turn.wrong for _ in range(4) for turn in found.run(0.0) if turn.wrongs]


# The burn-in of a device


def test_out_of_memory_takes_smaller_sizes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of 512 rows where those of 1,024 do not fit; half of the memory."""

    def failing(sound: Callable[..., None], most: int) -> Callable[..., None]:
        def init(self: Any, first: Any, size: int, *rest: Any) -> None:
            if size > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            sound(self, first, size, *rest)

        return init

    monkeypatch.setattr(burn, "TYPES", ("float32",))
    monkeypatch.setattr(Products, "__init__", failing(Products.__init__, 512))
    monkeypatch.setattr(MemoryRegion, "__init__", failing(MemoryRegion.__init__, 3 << 20))
    found = DeviceBurnIn("cpu", ["matmul", "memory"], 1000.0, 8 << 20, {})
    assert "float32: out of memory at 1024 rows" in found.notes
    assert "out of memory at 8,388,608 bytes" in found.notes
    assert [unit.name for unit in found.units] == [
        "matmul float32 512",
        "matmul float32 256",
        "memory",
    ]


def test_every_unit_has_its_turn_in_its_turn() -> None:
    """One after the other, and again from the first."""
    found = DeviceBurnIn("cpu", ["conv", "scatter"], 1.0, None, {})
    turns = [turn for _ in range(4) for turn in found.run(0.0)]
    assert [(turn.unit, turn.round) for turn in turns] == [
        ("conv", 0),
        ("scatter", 0),
        ("conv", 1),
        ("scatter", 1),
    ]


# Verdicts


@pytest.mark.parametrize(
    ("record", "outcome", "said"),
    [
        (ProbeRecord(probe="p", checked=3), "pass", "3 results, all right"),
        (
            ProbeRecord(probe="p", checked=0, skipped=["a: no", "b: no"]),
            "skipped",
            "2 not available here: no",
        ),
        (
            ProbeRecord(probe="p", checked=3, wrong=[Fact(what="a", expected="b", actual="c")]),
            "fail",
            "1 of 3 results wrong: a: c",
        ),
        (
            ProbeRecord(probe="p", checked=3, unjudged=[Fact(what="a", expected="b", actual="c")]),
            "inconclusive",
            "a: c",
        ),
    ],
)
def test_a_probe_is_judged_by_what_it_compared(
    record: ProbeRecord, outcome: str, said: str
) -> None:
    """Nothing compared is no pass; what nobody has measured is left open."""
    verdict = probed("matmul", "cpu", [record])
    assert (verdict.outcome, verdict.actual) == (outcome, said)


@pytest.fixture(autouse=True)
def _single_threaded() -> Iterator[None]:
    """These are small: more threads would wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_probe_that_another_python_lacks_is_named() -> None:
    """A process may run where the package that adds a probe is not installed."""
    with pytest.raises(ValueError, match="the other probe is not installed in this Python"):
        check("other", "cpu")
