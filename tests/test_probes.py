"""The exact probes: their expected results, and the detection of faults."""

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
from xorbench.machine.probes.golden import cases_of, expected_digests, golden
from xorbench.machine.probes.integers import entries, largest_entry, scattered
from xorbench.machine.probes.memory import MemoryRegion, compiled
from xorbench.machine.probes.product import Products
from xorbench.machine.probes.rounding import FORMATS, decoded, rounded
from xorbench.machine.probes.table import PROBES
from xorbench.records.schema.golden import Fact, ProbeRecord
from xorbench.xor.checks.devices import probed

CPU = torch.device("cpu")
TORCH = {name: list(cases_of(name)) for name in golden()}


# Expected results


def test_the_golden_digests_are_those_of_integer_arithmetic() -> None:
    """NumPy's integers give every digest of the package."""
    assert expected_digests() == golden()


@pytest.mark.parametrize(("capability", "threads"), [("default", "1"), ("avx2", "2")])
def test_pytorch_gives_them_at_each_instruction_set_and_thread_count(
    capability: str, threads: str
) -> None:
    """A healthy CPU gives the golden digests with each setting."""
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
    """Probes without cases have none."""
    assert set(golden()) == {name for name, probe in PROBES.items() if probe.cases}


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_rounding_is_what_numpy_does(name: str) -> None:
    """It is equal for integers times powers of two, including subnormals and overflow."""
    rng = np.random.default_rng(0)
    m = rng.integers(-(2**40), 2**40, 100_000)
    e = rng.integers(-70, 0, 100_000) if name == "float16" else rng.integers(-190, 90, 100_000)
    with np.errstate(over="ignore"):
        expected = np.ldexp(m.astype(np.float64), e).astype(name)
    kind = FORMATS[name]
    bits = expected.view(f"u{kind.width // 8}").astype(np.uint64)
    assert np.array_equal(rounded(m, e, kind), bits)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_decoding_and_rounding_are_each_others_inverse(name: str) -> None:
    """Every finite value is returned with its own bits."""
    kind = FORMATS[name]
    positive = np.arange(1, kind.largest + 1, dtype=np.uint64)
    assert np.array_equal(rounded(*decoded(positive, kind), kind), positive)


def test_a_tie_goes_to_the_even_neighbour() -> None:
    """257 is between 256 and 258 in bfloat16, and 259 between 258 and 260."""
    bits = rounded(np.array([257, 259]), 0, FORMATS["bfloat16"])
    assert [hex(b) for b in bits.tolist()] == [hex(0x4380), hex(0x4382)]


@pytest.mark.parametrize("case", TORCH["matmul"], ids=lambda case: case.name)
def test_no_partial_sum_of_a_product_can_be_rounded(case: ExactCase) -> None:
    """The sum of all absolute values is exact, or there is only one term."""
    arrays = case.make()
    a, b, c = (np.abs(arrays[name]) for name in "abc")
    most = (a @ b).max() + (c.max() if c.any() else 0)
    single = (a != 0).sum(-1).max() == 1 and not c.any()
    limit = 2 ** matmul.SUMMED[case.name.partition(" ")[0]]
    assert most <= limit or single
    assert not single or most < 2**56


@pytest.mark.parametrize("convolve", conv.CONVOLVES, ids=str)
def test_the_integer_convolution_is_pytorchs_in_float64(convolve: conv.Convolve) -> None:
    """PyTorch in float64 is an independent reference for forward and both gradients."""
    for case in TORCH["conv"]:
        if case.name.startswith(f"float64 {convolve},"):
            arrays = case.make()
            with exact_settings():
                bits = exact.tensor_bits(case.compute(arrays, CPU))
            assert np.array_equal(bits, case.expected(arrays))


def test_a_scattered_matrix_has_one_entry_per_row_and_at_most_one_per_column() -> None:
    """A product with it has a single term per element."""
    nonzero = scattered("t", 0, 40, entries("t", 0, (31,), 9)) != 0
    assert (nonzero.sum(1) == 1).all()
    assert (nonzero.sum(0) <= 1).all()


def test_entries_are_within_their_limit_and_never_zero() -> None:
    """Both limits occur."""
    values = entries("t", 0, (10_000,), 3)
    assert sorted(set(values.tolist())) == [-3, -2, -1, 1, 2, 3]
    assert largest_entry(4096, 2**24, 4096) == 64
    with pytest.raises(ValueError, match="a sum of 300 products exceeds 256"):
        largest_entry(300, 256, 8)


# Faults are detected and described


def broken(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Patch an operator to flip the lowest bit of one element of its result."""
    healthy = getattr(module, name)

    def faulty(*args: Any, **options: Any) -> Any:
        result = healthy(*args, **options).clone()
        words = exact.WIDTHS[result.element_size()]
        result.view(-1).view(words)[result.numel() // 2] ^= 1
        return result

    monkeypatch.setattr(module, name, faulty)


@pytest.mark.parametrize(
    ("probe", "module", "name", "case"),
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
def test_one_wrong_bit_of_one_result_is_detected(
    probe: str, module: Any, name: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report names the case, the element and the bit."""
    broken(monkeypatch, module, name)
    result = check(probe, "cpu")
    wrong = next(row for row in result.wrong if row.what.startswith(case))
    assert "1 of " in wrong.actual
    assert "(bits 0" in wrong.actual


def test_a_conversion_that_truncates_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncation is wrong at half of the boundaries."""
    healthy = torch.Tensor.to

    def truncating(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if args == (torch.bfloat16,) and self.dtype == torch.float32 and self.numel() > 10_000:
            kept = self.view(torch.int32) & -65536
            return healthy(kept.view(torch.float32), torch.bfloat16)
        return healthy(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", truncating)
    assert [row.what for row in check("conversion", "cpu").wrong] == ["float32 to bfloat16"]


def test_different_results_of_equal_rows_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """They fail on a CPU, and are inconclusive on a kind of device that was not measured."""
    broken(monkeypatch, torch, "tanh")
    monkeypatch.setattr(
        consistency, "FUNCTIONS", (consistency.FUNCTIONS[0]._replace(compute=torch.tanh),)
    )
    assert [row.what for row in check("consistency", "cpu").wrong] == ["tanh"]
    monkeypatch.setattr(consistency, "MEASURED", ())
    result = check("consistency", "cpu")
    assert (result.wrong, [row.what for row in result.unjudged]) == ([], ["tanh"])


def test_a_function_with_the_same_error_in_every_row_is_detected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first row is compared with float64, since identical rows may all be wrong."""
    wrong = consistency.FUNCTIONS[1]._replace(compute=lambda x: x.exp() * 1.0001)
    monkeypatch.setattr(consistency, "FUNCTIONS", (wrong,))
    assert "off" in check("consistency", "cpu").wrong[0].actual


def test_an_unsupported_operator_is_skipped_and_a_failing_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unsupported operator is skipped with a reason; any other error ends the probe."""

    def lacking(*_: Any, **__: Any) -> None:
        raise RuntimeError("\"int_mm\" not implemented for 'Char'")

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "_int_mm", lacking)
    result = check("matmul", "cpu")
    assert [name.partition(":")[0] for name in result.skipped if "int_mm" in name] == [
        "int8 dense int_mm 32×256×24",
        "int8 sparse int_mm 32×256×24",
    ]
    monkeypatch.setattr(torch, "_int_mm", failing)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        check("matmul", "cpu")


def test_reduced_precision_is_disabled_and_restored() -> None:
    """PyTorch's flags have the user's values again on exit."""
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_settings():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", ["int64", "float64", "bfloat16"])
def test_an_in_place_operation_does_not_change_the_integers(dtype: str) -> None:
    """A collective writes to its operand before its expected result is computed."""
    integers = entries("t", 0, (9,), 5)
    before = integers.copy()
    exact.tensor(integers, dtype, CPU).zero_()
    assert np.array_equal(integers, before)


def test_a_wrong_shape_is_reported() -> None:
    """The report gives both shapes instead of elements."""
    case = TORCH["matmul"][0]
    cut = ExactCase(case.name, case.dtype, case.make, case.expected, lambda *_: torch.zeros(3))
    assert difference(cut, CPU, "x") == "shape [3] instead of [31, 7]"


def test_a_wrong_element_names_its_bits() -> None:
    """The text has the position, both patterns and the bits that differ."""
    text = str(WrongElement((3, 5), 0x3F800000, 0x3F800009, 32))
    assert text == "element [3, 5]: expected 3f800000, got 3f800009 (bits 0, 3)"


# Memory


@pytest.fixture(params=["compiled", "by operators"])
def region(request: pytest.FixtureRequest) -> MemoryRegion:
    """Two MiB, with either march."""
    return MemoryRegion(CPU, 2 << 20, compiled() if request.param == "compiled" else None)


def test_healthy_memory_is_read_back_in_every_round(region: MemoryRegion) -> None:
    """Four rounds of marches and copies have no wrong words."""
    assert [wrong for _ in range(4) for wrong in [*region.march(), *region.copy()]] == []


@pytest.mark.parametrize("bit", [0, 31, 63])
def test_a_flipped_bit_is_named_and_the_next_round_is_clean(region: MemoryRegion, bit: int) -> None:
    """The report has its position and only that bit."""
    next(region.march(), None)
    region.flip(70_001, bit)
    (wrong,) = region.march()
    (element,) = wrong.first
    assert (wrong.total, element.place, element.flipped()) == (1, (70_001,), [bit])
    assert list(region.march()) == []


@pytest.mark.parametrize("value", [0, 1])
def test_a_stuck_bit_is_detected_within_two_rounds(region: MemoryRegion, value: int) -> None:
    """Each bit stores 0 and 1."""
    mismatches = 0
    for _ in range(2):
        word = region.words.view(-1)[123]
        region.words.view(-1)[123] = word | 4 if value else word & ~4
        mismatches += sum(wrong.total for wrong in region.march())
    assert mismatches == 1


def test_all_wrong_words_are_counted_and_few_are_described(region: MemoryRegion) -> None:
    """A region that reads as zeros is reported without further cost."""
    region.words.zero_()
    tiles = list(region.march())
    assert sum(tile.total for tile in tiles) >= region.words.numel() - 1
    assert max(len(tile.first) for tile in tiles) == SHOWN
    assert f"{tiles[0].total} words, element" in str(tiles[0])


def test_aliased_addresses_are_detected(region: MemoryRegion) -> None:
    """One address reads the word written to the other."""
    flat = region.words.view(-1)
    flat[5] = flat[200_000]
    places = [element.place for (_, _, first) in region.march() for element in first]
    assert places == [(5,)]


def test_both_marches_write_the_same_words() -> None:
    """The compiled march and PyTorch's operators have the same pattern."""
    regions = [MemoryRegion(CPU, 1 << 20, march) for march in (compiled(), None)]
    for _ in range(3):
        assert torch.equal(regions[0].words, regions[1].words)
        assert [list(region.march()) for region in regions] == [[], []]


# Large products


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int8"])
def test_large_products_are_correct_in_every_kind_of_round(dtype: str) -> None:
    """Dense and sparse products and full significands on either side are covered."""
    products = Products(dtype, 256, CPU)
    rounds = [products.round(number, 2) for number in range(2 * len(products.kinds))]
    assert {done.kind for done in rounds} == set(matmul.kinds(dtype))
    assert [done.wrong for done in rounds] == [[]] * len(rounds)


def test_the_expected_product_of_a_round_equals_float64() -> None:
    """NumPy's product of the factors is an independent reference."""
    products = Products("float32", 256, CPU)
    for number in range(4):
        products.round(number, 1)
        left, right, expected = (part.double().numpy() for part in products.sides())
        assert np.array_equal(left @ right.T, expected)


def test_a_host_that_multiplies_incorrectly_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's product is verified with integers; one wrong element prevents the probe."""
    healthy = np.matmul

    def faulty(a: Any, b: Any) -> Any:
        product = healthy(a, b)
        product[17, 31] += 1
        return product

    monkeypatch.setattr(np, "matmul", faulty)
    with pytest.raises(ArithmeticError, match="multiplies incorrectly"):
        Products("float32", 256, CPU)


def test_each_round_has_a_different_expected_product() -> None:
    """A stale result of the previous round is wrong."""
    products = Products("float32", 256, CPU)
    expected = []
    for number in (0, 4, 8):
        products.round(number, 1)
        expected.append(products.sides()[2].clone())
    assert not any(torch.equal(expected[0], later) for later in expected[1:])


@pytest.mark.parametrize(("every", "again"), [(1, True), (2, False)])
def test_a_wrong_product_records_whether_it_is_reproduced(
    every: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stuck bit is reproduced; an occasional flip is correct on retry."""
    calls = iter(range(10**6))
    healthy = torch.mm

    def faulty(*args: Any, **options: Any) -> torch.Tensor:
        product = healthy(*args, **options)
        if next(calls) % every == 0:
            product[7, 9] += 1
        return product

    monkeypatch.setattr(torch, "mm", faulty)
    (wrong,) = Products("float32", 256, CPU).round(0, 1).wrong
    assert (wrong.element.place, wrong.again) == ((7, 9), again)


def test_all_wrong_elements_are_counted_and_few_are_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device whose products are all wrong costs no more than one wrong element."""
    healthy = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *args, **options: healthy(*args, **options).neg_())
    done = Products("float32", 256, CPU).round(0, 1)
    assert (done.mismatches, len(done.wrong)) == (256 * 256, SHOWN)
    turn = ProductUnit(Products("float32", 256, CPU), 1, 0.0).turn(0)
    assert (turn.mismatches, len(turn.wrong)) == (256 * 256, NAMED)


def test_a_broken_comparison_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round flips a bit, so a device with a broken comparison cannot pass."""
    unit = ProductUnit(Products("float32", 256, CPU), 1, 0.0)
    assert unit.turn(0).mismatches == 0
    monkeypatch.setattr(Products, "_differs", lambda _self: False)
    turn = unit.turn(1)
    assert "misses a flipped bit" in turn.wrong[0].what


def test_dense_products_with_narrow_partial_sums_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many small, reproducible errors skip the dense products with a note."""
    healthy = torch.mm

    def split(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        half = a.shape[1] // 2
        parts = healthy(a[:, :half], b[:half]), healthy(a[:, half:], b[half:])
        return out.copy_(parts[0] + parts[1])

    monkeypatch.setattr(torch, "mm", split)
    monkeypatch.setattr(burn, "TYPES", ("float32", "bfloat16"))
    monkeypatch.setattr(burn, "SLOWER", 1e9)
    burn_in = DeviceBurnIn("cpu", ["matmul"], 0.1, None, {})
    assert [note for note in burn_in.notes if "partial sums are stored in bfloat16" in note]
    assert not [turn.wrong for _ in range(4) for turn in burn_in.run(0.0) if turn.mismatches]


# The burn-in of a device


def test_out_of_memory_reduces_the_sizes_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products have 512 instead of 1,024 rows, and the memory is halved."""

    def failing(healthy: Callable[..., None], most: int) -> Callable[..., None]:
        def init(self: Any, first: Any, size: int, *rest: Any) -> None:
            if size > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            healthy(self, first, size, *rest)

        return init

    monkeypatch.setattr(burn, "TYPES", ("float32",))
    monkeypatch.setattr(Products, "__init__", failing(Products.__init__, 512))
    monkeypatch.setattr(MemoryRegion, "__init__", failing(MemoryRegion.__init__, 3 << 20))
    burn_in = DeviceBurnIn("cpu", ["matmul", "memory"], 1000.0, 8 << 20, {})
    assert "float32: out of memory at 1024 rows" in burn_in.notes
    assert "out of memory at 8,388,608 bytes" in burn_in.notes
    assert [unit.name for unit in burn_in.units] == [
        "matmul float32 512",
        "matmul float32 256",
        "memory",
    ]


def test_units_take_turns() -> None:
    """After the last unit, the first has its next turn."""
    burn_in = DeviceBurnIn("cpu", ["conv", "scatter"], 1.0, None, {})
    turns = [turn for _ in range(4) for turn in burn_in.run(0.0)]
    assert [(turn.unit, turn.round) for turn in turns] == [
        ("conv", 0),
        ("scatter", 0),
        ("conv", 1),
        ("scatter", 1),
    ]


# Verdicts


@pytest.mark.parametrize(
    ("record", "outcome", "text"),
    [
        (ProbeRecord(probe="p", checked=3), "pass", "3 results, all correct"),
        (
            ProbeRecord(probe="p", checked=0, skipped=["a: no", "b: no"]),
            "skipped",
            "2 not available: no",
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
def test_a_probe_is_judged_by_its_results(record: ProbeRecord, outcome: str, text: str) -> None:
    """No results are skipped, and differences on an unmeasured device are inconclusive."""
    verdict = probed("matmul", "cpu", [record])
    assert (verdict.outcome, verdict.actual) == (outcome, text)


@pytest.fixture(autouse=True)
def _single_threaded() -> Iterator[None]:
    """Use one thread, since synchronization dominates small operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_probe_that_is_not_installed_is_named() -> None:
    """The package that adds a probe may be missing in a process's Python."""
    with pytest.raises(ValueError, match="the other probe is not installed in this Python"):
        check("other", "cpu")
