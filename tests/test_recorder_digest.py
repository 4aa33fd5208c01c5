"""The digest of a tensor: equal to an independent implementation, different for other tensors."""

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


# An independent implementation of docs/trace-format.md, in Python integers, without xorbench.


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
    """One digester for all tests, as in a process."""
    return Digester()


@pytest.fixture(scope="module")
def digest(digester: Digester) -> Callable[[Tensor], str]:
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
def test_golden_values(digest: Digest, name: str) -> None:
    """The digest of a tensor is the same on every machine and in every version."""
    tensor, golden = GOLDEN[name]
    assert digest(tensor()) == golden


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 1_001, 2 * CHUNK + 3])
def test_the_digest_agrees_with_an_independent_implementation(
    digest: Digest, dtype: torch.dtype, count: int
) -> None:
    """For every type and for sizes from none to several chunks, including partial words."""
    size = torch.zeros(1, dtype=dtype).element_size()
    data = random.Random(count).randbytes(count * size)
    if dtype == torch.bool:
        data = bytes(byte & 1 for byte in data)
    tensor = torch.empty(count, dtype=torch.uint8)
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else tensor
    assert digest(raw.view(dtype)) == reference(data, str(dtype), [count])


def test_tensors_together_have_the_digests_of_each_tensor(
    digester: Digester, digest: Digest
) -> None:
    """For small, large and sparse tensors, and for several packs."""
    sizes = [0, 5, 1, 8_192, 8_193, 0, CHUNK, CHUNK + 1, 9 * CHUNK + 5, 300, *([8_000] * 70), 0]
    sizes += [recorder.PACK, 5]
    tensors = [normal(size) for size in sizes]
    tensors += [normal(3, 4).T, normal(7).to(torch.bfloat16), torch.eye(3).to_sparse()]
    started = digester.start_all(tensors)
    parts = [part for part in started if not isinstance(part, Exception)]
    assert digester.finish(parts) == [digest(tensor) for tensor in tensors]


def test_a_tensor_without_a_digest_does_not_affect_others(
    digester: Digester, digest: Digest
) -> None:
    """Its reason is in the place of its digest."""
    first, refused, last = digester.start_all([normal(3), normal(3).to("meta"), normal(4)])
    assert isinstance(refused, NotRecorded)
    assert not isinstance(first, Exception)
    assert not isinstance(last, Exception)
    assert digester.finish([first, last]) == [digest(normal(3)), digest(normal(4))]


def test_a_scalar_has_the_digest_of_its_bytes_and_no_shape(digest: Digest) -> None:
    """A tensor without dimensions differs from a tensor with one element."""
    assert digest(torch.tensor(3.5)) == reference(np.float32(3.5).tobytes(), "torch.float32", [])
    assert digest(torch.tensor(3.5)) != digest(torch.tensor([3.5]))


def test_chunks_beyond_32768_are_combined_level_by_level() -> None:
    """More than 4 GiB: the sums of chunks are grouped again, with the same keys."""
    count = CHUNK + 3
    sums = torch.randint(
        -(2**62), 2**62, (count,), generator=torch.Generator().manual_seed(1), dtype=torch.int64
    )
    _, chunk_keys = Digester()._device_keys(torch.device("cpu"))
    odd_keys = [1, *(splitmix64(CHUNK + place) | 1 for place in range(1, CHUNK))]
    values = sums.tolist()
    first = sum(value * key for value, key in zip(values[:CHUNK], odd_keys, strict=True))
    second = sum(value * key for value, key in zip(values[CHUNK:], odd_keys, strict=False))
    combined = recorder._combined(sums, chunk_keys).item()
    assert combined % TWO_64 == (first * odd_keys[0] + second * odd_keys[1]) % TWO_64


# Different tensors


def swapped(tensor: Tensor, a: int, b: int) -> Tensor:
    """The tensor with two of its elements swapped."""
    changed = tensor.clone()
    changed[a], changed[b] = tensor[b], tensor[a]
    return changed


def with_signs(tensor: Tensor, *places: int) -> Tensor:
    """The tensor with the signs of some elements inverted."""
    changed = tensor.clone()
    changed[list(places)] *= -1
    return changed


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
def test_a_changed_tensor_has_a_different_digest(digest: Digest, name: str) -> None:
    """Signs, order, chunks, shape, type and length all count."""
    assert digest(CHANGES[name](BASE)) != digest(BASE)


def test_signed_zeros_and_nans_have_different_digests(digest: Digest) -> None:
    """Bits are digested, not values: 0 and -0, and two NaNs, differ."""
    nans = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    digests = {
        digest(torch.tensor([0.0])),
        digest(torch.tensor([-0.0])),
        digest(nans[:1]),
        digest(nans[1:]),
    }
    assert len(digests) == 4


def test_empty_tensors_of_different_shapes_have_different_digests(digest: Digest) -> None:
    """The shape counts although there are no bytes."""
    assert len({digest(torch.empty(*shape)) for shape in [(0,), (0, 3), (3, 0), (0, 0)]}) == 4


def test_padding_is_not_data(digest: Digest) -> None:
    """Trailing zero bytes of the data differ from the padding of a word."""
    ends = [torch.tensor([1, 2, 3, *zeros], dtype=torch.uint8) for zeros in ([], [0], [0, 0])]
    assert len({digest(end) for end in ends}) == 3


WEAK: dict[str, tuple[Callable[[int], int], Callable[[int], int], set[str]]] = {
    # a fault of the digest, as the keys of words and chunks, and changes that it does not detect
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
    """The changes above detect a weak digest: the expected changes are missed with each fault."""
    word, chunk, missed = WEAK[fault]

    def weak(_self: Digester, _device: torch.device) -> tuple[Tensor, Tensor]:
        places = [word(place) for place in range(CHUNK)]
        return recorder._signed(places), recorder._signed([chunk(p) for p in range(CHUNK)])

    monkeypatch.setattr(Digester, "_device_keys", weak)
    digester = Digester()
    base, *digests = digester.finish(
        [digester.start(x) for x in [BASE, *(CHANGES[name](BASE) for name in CHANGES)]]
    )
    unchanged = {name for name, digest in zip(CHANGES, digests, strict=True) if digest == base}
    assert missed <= unchanged


# Views


def test_views_are_read_in_logical_order(digest: Digest) -> None:
    """A transposed, strided, expanded or flipped view has the digest of a copy."""
    x = normal(64, 48)
    views = [x.t(), x[::2, 1::3], x[0].expand(5, 48), x[3:, 5:], x[:, 1], x.unfold(0, 3, 1)]
    assert [digest(view) for view in views] == [digest(view.clone().contiguous()) for view in views]


@pytest.mark.parametrize("index", [(slice(0, 1), 1), (0, slice(1, 2)), (slice(2, 3), slice(1, 2))])
def test_a_view_of_one_element_may_have_any_stride(digest: Digest, index: Any) -> None:
    """A slice of one element is digested although its stride is not 1."""
    view = normal(4, 6)[index]
    assert digest(view) == digest(view.clone(memory_format=torch.contiguous_format))
    assert digest(torch.tensor([1 + 2j]).imag) == digest(torch.tensor([2.0]))


@pytest.mark.parametrize("offset", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [8, 9, CHUNK * 4 + 1])
def test_a_view_that_is_not_aligned_has_the_digest_of_a_copy(
    digest: Digest, offset: int, count: int
) -> None:
    """The digest does not depend on the alignment of the bytes."""
    whole = torch.from_numpy(np.frombuffer(random.Random(1).randbytes(count + 8), np.uint8).copy())
    view = whole[offset : offset + count]
    assert digest(view) == digest(view.clone())
    halves = whole[: count // 2 * 2].view(torch.bfloat16)
    assert digest(halves[1:4]) == digest(halves[1:4].clone())


def test_conjugate_and_negative_views_are_resolved(digest: Digest) -> None:
    """They have the digest of their values, not of the stored bytes."""
    x = torch.view_as_complex(normal(10, 2))
    conjugate = x.conj()
    negative = conjugate.imag
    assert conjugate.is_conj()
    assert negative.is_neg()
    assert digest(conjugate) == digest(x.conj().resolve_conj()) != digest(x)
    assert digest(negative) == digest(negative.resolve_neg().contiguous()) != digest(x.imag)


def test_a_digest_does_not_change_its_tensor(digest: Digest) -> None:
    """Bits, version, gradient and flags are unchanged, and no generator advances."""
    x = normal(100).requires_grad_()
    before, version, state = x.detach().clone(), x._version, torch.get_rng_state()
    digest(x)
    assert torch.equal(x.detach(), before)
    assert (x._version, x.grad, x.requires_grad) == (version, None, True)
    assert torch.equal(torch.get_rng_state(), state)


def test_requires_grad_and_class_of_a_parameter_do_not_count(digest: Digest) -> None:
    """A parameter has the digest of its data."""
    x = normal(9)
    assert digest(x) == digest(torch.nn.Parameter(x)) == digest(x.clone().requires_grad_())


# Layouts


def test_a_sparse_tensor_is_its_indices_and_values(digest: Digest) -> None:
    """A different index or value changes the digest; an equal tensor has the same."""

    def sparse(index: int, value: float) -> Tensor:
        return torch.zeros(5).index_fill(0, torch.tensor([0, index]), value).to_sparse()

    assert digest(sparse(2, 3.0)) == digest(sparse(2, 3.0))
    assert len({digest(sparse(2, 3.0)), digest(sparse(3, 3.0)), digest(sparse(2, 4.0))}) == 3


@pytest.mark.filterwarnings("ignore:.*beta state.*:UserWarning")
def test_compressed_layouts_have_digests(digest: Digest) -> None:
    """Rows, columns and blocks: the same for equal tensors, different for different values."""
    x = torch.eye(4)
    for convert in (
        Tensor.to_sparse_csr,
        Tensor.to_sparse_csc,
        lambda t: t.to_sparse_bsr((2, 2)),
        lambda t: t.to_sparse_bsc((2, 2)),
    ):
        assert digest(convert(x)) == digest(convert(x.clone())) != digest(convert(2 * x))  # type: ignore[no-untyped-call]


def freed() -> Tensor:
    """A tensor whose memory is freed, as sharding does between uses."""
    tensor = torch.zeros(10)
    tensor.untyped_storage().resize_(0)
    return tensor


def fake() -> Tensor:
    """A fake tensor, as tracers use."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(3)


UNREADABLE: dict[str, Callable[[], Tensor]] = {
    "meta": lambda: torch.zeros(3, device="meta"),
    "FakeTensor": fake,
    "NestedTensor": lambda: torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged),
    "mkldnn": lambda: torch.zeros(2, 2).to_mkldnn(),
    "freed": freed,
    "initialized": lambda: torch.nn.LazyLinear(2).weight,
}


@pytest.mark.parametrize("why", UNREADABLE)
def test_an_unreadable_tensor_has_a_reason(digester: Digester, why: str) -> None:
    """A tensor without readable bytes raises `NotRecorded` and does not crash the process."""
    with pytest.raises(NotRecorded, match=why):
        digester.start(UNREADABLE[why]())


# Random flips


@pytest.fixture(scope="module")
def flips() -> ModuleType:
    """The benchmark script as a module."""
    spec = importlib.util.spec_from_file_location("digest_flips", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_random_flip_is_detected(flips: ModuleType) -> None:
    """100,000 flips of one or two bits each give a new digest."""
    assert flips.flipped(100_000, seed=0) == flips.Flips(100_000, 0, 0)


def test_unseen_flips_are_counted(flips: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an injected fault, keys that lose the upper half of each word, the count is not 0."""

    def weak(_self: Digester, _device: torch.device) -> tuple[Tensor, Tensor]:
        places = torch.full((CHUNK,), 1 << 48, dtype=torch.int64)
        return places, torch.ones(CHUNK, dtype=torch.int64)

    monkeypatch.setattr(Digester, "_device_keys", weak)
    result = flips.flipped(500, seed=0)
    assert result.unseen > 0
    assert result.collisions > 0
