"""The digest of a tensor: equal to an independent one, and other for every other tensor."""

import importlib.util
import random
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xorbench.recorder import fingerprint as recorder
from xorbench.recorder.fingerprint import Digester, NotRecorded

BENCH = Path(__file__).parents[1] / "bench" / "digest_flips.py"
CHUNK = 32_768
TWO_64 = 1 << 64


# A second reading of docs/trace-format.md, in Python integers; it imports nothing of xorbench.


def splitmix64(value: int) -> int:
    """The mixing step of the generator SplitMix64."""
    value = (value + 0x9E3779B97F4A7C15) % TWO_64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % TWO_64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % TWO_64
    return value ^ value >> 31


@cache
def keys() -> tuple[np.ndarray[Any, Any], list[int]]:
    """The keys of the words of a chunk, and those of the chunks."""
    words = [splitmix64(place) for place in range(CHUNK)]
    chunks = [1, *(splitmix64(CHUNK + place) | 1 for place in range(1, 64))]
    return np.array(words, dtype=np.uint64), chunks


def reference(data: bytes, dtype: str, shape: list[int]) -> str:
    """The digest of a dense tensor with these bytes."""
    word_keys, chunk_keys = keys()
    words = np.frombuffer(data + bytes(-len(data) % 4), dtype="<i4").astype(np.int64)
    total = 0
    for chunk, first in enumerate(range(0, len(words), CHUNK)):
        part = words[first : first + CHUNK].view(np.uint64)
        total += int((part * word_keys[: len(part)]).sum(dtype=np.uint64)) * chunk_keys[chunk]
    seed = zlib.crc32(f"{dtype} {shape} {len(data)}".encode())
    inner = splitmix64((total % TWO_64) ^ splitmix64(seed))
    return f"{splitmix64(1 ^ inner):016x}"


@pytest.fixture(scope="module")
def digester() -> Digester:
    """One digester, as a process has."""
    return Digester()


@pytest.fixture(scope="module")
def of(digester: Digester) -> Callable[[Tensor], str]:
    """The digest of a tensor."""
    return lambda tensor: digester.finish([digester.start(tensor)])[0]


Digest = Callable[[Tensor], str]


def normal(*shape: int) -> Tensor:
    """Normal numbers, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


GOLDEN = {
    "zeros": (lambda: torch.zeros(3), "4155e0de3b665a1b"),
    "counted": (lambda: torch.arange(10, dtype=torch.float32), "375b5d74ec1b359c"),
    "two chunks": (lambda: torch.arange(40_000, dtype=torch.int32), "cd0894fd7048b210"),
    "a block and more": (
        lambda: torch.arange(9 * CHUNK + 5, dtype=torch.int32),
        "48589e715033de19",
    ),
    "odd bytes": (lambda: torch.arange(7, dtype=torch.uint8), "6df1686bd9de55fd"),
}
DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32),
    *(torch.float64, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(of: Digest, name: str) -> None:
    """The digest of a given tensor is the same on every machine and in every version."""
    tensor, golden = GOLDEN[name]
    assert of(tensor()) == golden


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 1_001, 2 * CHUNK + 3])
def test_the_digest_is_that_of_an_independent_implementation(
    of: Digest, dtype: torch.dtype, count: int
) -> None:
    """Every type and every number of bytes, odd ones and none, one chunk and several."""
    size = torch.zeros(1, dtype=dtype).element_size()
    data = random.Random(count).randbytes(count * size)
    if dtype == torch.bool:
        data = bytes(byte & 1 for byte in data)
    tensor = torch.empty(count, dtype=torch.uint8)
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else tensor
    assert of(raw.view(dtype)) == reference(data, str(dtype), [count])


def test_many_at_once_have_the_digests_that_each_has_alone(digester: Digester, of: Digest) -> None:
    """Small ones are summed together, large ones in part; so are many packs and sparse tensors."""
    sizes = [0, 5, 1, 8_192, 8_193, 0, CHUNK, CHUNK + 1, 9 * CHUNK + 5, 300, *([8_000] * 70), 0]
    sizes += [recorder.PACK, 5]
    tensors = [normal(size) for size in sizes]
    tensors += [normal(3, 4).T, normal(7).to(torch.bfloat16), torch.eye(3).to_sparse()]
    started = digester.start_all(tensors)
    parts = [one for one in started if not isinstance(one, Exception)]
    assert digester.finish(parts) == [of(tensor) for tensor in tensors]


def test_what_has_no_digest_costs_none_of_the_others(digester: Digester, of: Digest) -> None:
    """The reason stands in its place."""
    one, refused, other = digester.start_all([normal(3), normal(3).to("meta"), normal(4)])
    assert isinstance(refused, NotRecorded)
    assert not isinstance(one, Exception)
    assert not isinstance(other, Exception)
    assert digester.finish([one, other]) == [of(normal(3)), of(normal(4))]


def test_a_number_alone_has_the_digest_of_its_bytes_and_no_shape(of: Digest) -> None:
    """A tensor of no dimension is not one of one element."""
    assert of(torch.tensor(3.5)) == reference(np.float32(3.5).tobytes(), "torch.float32", [])
    assert of(torch.tensor(3.5)) != of(torch.tensor([3.5]))


def test_chunks_beyond_32768_are_combined_level_by_level() -> None:
    """More than 4 GiB: the sums of chunks are grouped again, with the same keys."""
    count = CHUNK + 3
    sums = torch.randint(
        -(2**62), 2**62, (count,), generator=torch.Generator().manual_seed(1), dtype=torch.int64
    )
    _, chunk_keys = Digester()._device_keys(torch.device("cpu"))
    odd = [1, *(splitmix64(CHUNK + place) | 1 for place in range(1, CHUNK))]
    values = sums.tolist()
    first = sum(value * key for value, key in zip(values[:CHUNK], odd, strict=True))
    second = sum(value * key for value, key in zip(values[CHUNK:], odd, strict=False))
    combined = recorder._combined(sums, chunk_keys).item()
    assert combined % TWO_64 == (first * odd[0] + second * odd[1]) % TWO_64


# Other tensors


def swapped(tensor: Tensor, a: int, b: int) -> Tensor:
    """The tensor with two of its elements swapped."""
    other = tensor.clone()
    other[a], other[b] = tensor[b], tensor[a]
    return other


def with_signs(tensor: Tensor, *places: int) -> Tensor:
    """The tensor with the sign of some elements turned."""
    other = tensor.clone()
    other[list(places)] *= -1
    return other


BASE = normal(3 * CHUNK + 17)
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "negated": lambda x: -x,
    "one sign": lambda x: with_signs(x, 5),
    "two signs": lambda x: with_signs(x, 5, 6),
    "two signs, far apart": lambda x: with_signs(x, 5, 5 + CHUNK),
    "many signs": lambda x: with_signs(x, *range(0, len(x), 2)),
    "two elements swapped": lambda x: swapped(x, 3, 4),
    "two elements swapped across chunks": lambda x: swapped(x, 3, 3 + CHUNK),
    "reversed": lambda x: x.flip(0),
    "chunks swapped": lambda x: torch.cat([x[CHUNK : 2 * CHUNK], x[:CHUNK], x[2 * CHUNK :]]),
    "rotated by a chunk": lambda x: x.roll(CHUNK),
    "a zero more": lambda x: torch.cat([x, torch.zeros(1)]),
    "one less": lambda x: x[:-1],
    "another shape": lambda x: x.view(1, -1),
    "another type with the same bytes": lambda x: x.view(torch.int32),
    "one ulp": lambda x: torch.cat([torch.nextafter(x[:1], x[:1] + 1), x[1:]]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_tensor_has_another_digest(of: Digest, name: str) -> None:
    """Signs, order, chunks, shape, type and length all count."""
    assert of(CHANGES[name](BASE)) != of(BASE)


def test_minus_zero_and_other_nans_have_other_digests(of: Digest) -> None:
    """Bits are digested, not values: 0 and -0, and two NaNs, differ."""
    nans = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    digests = {of(torch.tensor([0.0])), of(torch.tensor([-0.0])), of(nans[:1]), of(nans[1:])}
    assert len(digests) == 4


def test_empty_tensors_of_other_shapes_have_other_digests(of: Digest) -> None:
    """Nothing is not always the same nothing."""
    assert len({of(torch.empty(*shape)) for shape in [(0,), (0, 3), (3, 0), (0, 0)]}) == 4


def test_padding_is_not_data(of: Digest) -> None:
    """Bytes that are zeros at the end differ from those that fill up a word."""
    ends = [torch.tensor([1, 2, 3, *zeros], dtype=torch.uint8) for zeros in ([], [0], [0, 0])]
    assert len({of(end) for end in ends}) == 3


WEAK: dict[str, tuple[Callable[[int], int], Callable[[int], int], set[str]]] = {
    # a fault of the digest, as the keys of words and chunks, and changes that it does not see
    "all words have one key": (
        lambda _: 1,
        lambda place: splitmix64(CHUNK + place) | 1,
        {"two elements swapped"},
    ),
    "all chunks have one key": (
        splitmix64,
        lambda _: 1,
        {"two elements swapped across chunks", "chunks swapped"},
    ),
    "keys of words are even powers": (lambda _: 1 << 33, lambda _: 1, {"one sign", "two signs"}),
}


@pytest.mark.parametrize("fault", WEAK)
def test_changes_are_missed_with_an_injected_fault(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The changes above find a weak digest: with the fault, those that it must miss are missed."""
    word, chunk, missed = WEAK[fault]

    def weak(_self: Digester, _device: torch.device) -> tuple[Tensor, Tensor]:
        places = [word(place) for place in range(CHUNK)]
        return recorder._signed(places), recorder._signed([chunk(p) for p in range(CHUNK)])

    monkeypatch.setattr(Digester, "_device_keys", weak)
    digester = Digester()
    base, *others = digester.finish(
        [digester.start(x) for x in [BASE, *(CHANGES[name](BASE) for name in CHANGES)]]
    )
    found = {name for name, other in zip(CHANGES, others, strict=True) if other == base}
    assert missed <= found


# Views


def test_views_are_read_in_logical_order(of: Digest) -> None:
    """A transposed, strided, expanded or flipped view has the digest of a copy."""
    x = normal(64, 48)
    views = [x.t(), x[::2, 1::3], x[0].expand(5, 48), x[3:, 5:], x[:, 1], x.unfold(0, 3, 1)]
    assert [of(view) for view in views] == [of(view.clone().contiguous()) for view in views]


@pytest.mark.parametrize("index", [(slice(0, 1), 1), (0, slice(1, 2)), (slice(2, 3), slice(1, 2))])
def test_a_view_of_one_element_may_have_any_stride(of: Digest, index: Any) -> None:
    """A slice of one element is read, though its stride is not 1."""
    view = normal(4, 6)[index]
    assert of(view) == of(view.clone(memory_format=torch.contiguous_format))
    assert of(torch.tensor([1 + 2j]).imag) == of(torch.tensor([2.0]))


@pytest.mark.parametrize("offset", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [8, 9, CHUNK * 4 + 1])
def test_a_view_that_is_not_aligned_has_the_digest_of_a_copy(
    of: Digest, offset: int, count: int
) -> None:
    """Bytes that do not begin at a word are read as the same bytes that do."""
    whole = torch.from_numpy(np.frombuffer(random.Random(1).randbytes(count + 8), np.uint8).copy())
    view = whole[offset : offset + count]
    assert of(view) == of(view.clone())
    halves = whole[: count // 2 * 2].view(torch.bfloat16)
    assert of(halves[1:4]) == of(halves[1:4].clone())


def test_conjugate_and_negative_views_have_the_digest_of_what_they_show(of: Digest) -> None:
    """A lazy conjugate or negative is resolved; the bytes below it are not what it is."""
    x = torch.view_as_complex(normal(10, 2))
    conjugate = x.conj()
    negative = conjugate.imag
    assert conjugate.is_conj()
    assert negative.is_neg()
    assert of(conjugate) == of(x.conj().resolve_conj()) != of(x)
    assert of(negative) == of(negative.resolve_neg().contiguous()) != of(x.imag)


def test_a_digest_leaves_its_tensor_as_it_is(of: Digest) -> None:
    """Neither bits, version, gradient nor flags change, and no generator is drawn from."""
    x = normal(100).requires_grad_()
    before, version, state = x.detach().clone(), x._version, torch.get_rng_state()
    of(x)
    assert torch.equal(x.detach(), before)
    assert (x._version, x.grad, x.requires_grad) == (version, None, True)
    assert torch.equal(torch.get_rng_state(), state)


def test_requires_grad_and_class_of_a_parameter_do_not_count(of: Digest) -> None:
    """A parameter has the digest of its data."""
    x = normal(9)
    assert of(x) == of(torch.nn.Parameter(x)) == of(x.clone().requires_grad_())


# Layouts


def test_a_sparse_tensor_is_its_indices_and_values(of: Digest) -> None:
    """Another index or another value gives another digest; an equal tensor the same."""

    def sparse(index: int, value: float) -> Tensor:
        return torch.zeros(5).index_fill(0, torch.tensor([0, index]), value).to_sparse()

    assert of(sparse(2, 3.0)) == of(sparse(2, 3.0))
    assert len({of(sparse(2, 3.0)), of(sparse(3, 3.0)), of(sparse(2, 4.0))}) == 3


@pytest.mark.filterwarnings("ignore:.*beta state.*:UserWarning")
def test_compressed_layouts_have_digests(of: Digest) -> None:
    """Rows, columns and blocks: equal for equal tensors, other for other values."""
    x = torch.eye(4)
    for convert in (
        Tensor.to_sparse_csr,
        Tensor.to_sparse_csc,
        lambda t: t.to_sparse_bsr((2, 2)),
        lambda t: t.to_sparse_bsc((2, 2)),
    ):
        assert of(convert(x)) == of(convert(x.clone())) != of(convert(2 * x))  # type: ignore[no-untyped-call]


def freed() -> Tensor:
    """A tensor whose memory is freed, as sharding does between uses."""
    tensor = torch.zeros(10)
    tensor.untyped_storage().resize_(0)
    return tensor


def fake() -> Tensor:
    """A tensor that stands for one, as tracers use."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(3)


UNREADABLE: dict[str, Callable[[], Tensor]] = {
    "meta": lambda: torch.zeros(3, device="meta"),
    "FakeTensor": fake,
    "NestedTensor": lambda: torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged),
    "mkldnn": lambda: torch.zeros(2, 2).to_mkldnn(),
    "freed": freed,
    "initialised": lambda: torch.nn.LazyLinear(2).weight,
}


@pytest.mark.parametrize("why", UNREADABLE)
def test_what_cannot_be_read_says_why(digester: Digester, why: str) -> None:
    """A tensor without readable bytes has no digest, and ends neither training nor process."""
    with pytest.raises(NotRecorded, match=why):
        digester.start(UNREADABLE[why]())


# Random flips


@pytest.fixture(scope="module")
def flips() -> ModuleType:
    """The bench as a module."""
    spec = importlib.util.spec_from_file_location("digest_flips", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_random_flip_goes_unseen(flips: ModuleType) -> None:
    """100,000 flips of one or two bits: no digest is that of the original or of another flip."""
    assert flips.flipped(100_000, seed=0) == flips.Flips(100_000, 0, 0)


def test_unseen_flips_are_counted(flips: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an injected fault, keys that lose the upper half of each word, the count is not 0."""

    def weak(_self: Digester, _device: torch.device) -> tuple[Tensor, Tensor]:
        places = torch.full((CHUNK,), 1 << 48, dtype=torch.int64)
        return places, torch.ones(CHUNK, dtype=torch.int64)

    monkeypatch.setattr(Digester, "_device_keys", weak)
    found = flips.flipped(500, seed=0)
    assert found.unseen > 0
    assert found.collisions > 0
