"""The recorder's 64-bit fingerprint of a tensor, computed where the tensor lives.

It is exact in any order of summation, and unrelated to the SHA-256 that identifies weights.

The bytes are read as 32-bit words. Each word is multiplied by a 64-bit key of its position in a
chunk of 32,768 words, and the products of a chunk are summed. Each sum is multiplied by an odd key
of the chunk's position, and the results are summed, all modulo 2^64. Type, shape and size enter by
mixing. The fingerprint protects against accidents, not against adversaries.
"""

from __future__ import annotations

import zlib
from array import array
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import Parameter, is_lazy

NAME = "words32-splitmix64"
CHUNK = 1 << 15  # words
BLOCK = 2  # chunks widened to 64 bits at once per CPU thread, so that they stay cached
SMALL = 1 << 13  # words up to which tensors are digested together
PACK = 1 << 22  # words collected before they are digested
MOST_KEPT = 2 * PACK  # cached keys, for sets of sizes: 64 MiB
MOST_CHUNKS = 32  # widened at once, regardless of the number of threads: 8 MiB
DEVICE_BLOCK = 256  # chunks widened at once on an accelerator
MASK = (1 << 64) - 1
OF_RANKS = ("DTensor", "AsyncCollectiveTensor")


class NotRecorded(Exception):
    """The tensor has no digest; the message is the reason."""


class DigestPart(NamedTuple):
    """An unfinished digest: a sum on the tensor's device, and a seed to mix in on the host."""

    total: Tensor
    seed: int


class PackedTensor(NamedTuple):
    """A tensor to be digested together with others: its words, and the seed to mix in."""

    words: Tensor
    seed: int
    place: int  # index of its digest


def mix(value: int) -> int:
    """SplitMix64's step: a bijection of 64-bit integers that changes half the bits.

    Source: G. Steele, D. Lea, C. Flood: Fast splittable pseudorandom number generators (2014).
    """
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def _signed(values: list[int]) -> Tensor:
    return torch.tensor(array("q", [v - (1 << 64) if v >> 63 else v for v in values]).tolist())


class Digester:
    """Computes digests of tensors; it keeps keys and a buffer for each device."""

    def __init__(self) -> None:
        self._keys: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._buffer: Tensor | None = None
        self._packs: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._pack_words = 0

    def start(self, tensor: Tensor) -> list[DigestPart]:
        """Begin a digest without copying from the device. Raises `NotRecorded`."""
        return [self._digest_words(*_words(dense)) for dense in dense_parts(tensor)]

    def start_all(self, tensors: list[Tensor]) -> list[list[DigestPart] | Exception]:
        """Begin the digests of many tensors, faster than one by one.

        A tensor that raises an exception has the exception in place of its digest. On a CPU, small
        tensors are concatenated and multiplied together. The chunks of a large tensor are summed
        first, and their sums are multiplied with the small tensors.
        """
        digests: list[list[DigestPart] | Exception] = []
        pack: list[PackedTensor] = []
        packed_words = 0
        for place, tensor in enumerate(tensors):
            try:
                parts = [_words(dense) for dense in dense_parts(tensor)]
                if len(parts) == 1 and _belongs_together(parts[0][0]):
                    pack.append(PackedTensor(*parts[0], place))
                    digests.append([])
                    packed_words += parts[0][0].numel()
                else:
                    digests.append([self._digest_words(words, seed) for words, seed in parts])
            except Exception as error:
                digests.append(error)
            if packed_words > PACK:
                self._digest_pack(pack, digests)
                pack, packed_words = [], 0
        self._digest_pack(pack, digests)
        return digests

    def _digest_pack(
        self, pack: list[PackedTensor], digests: list[list[DigestPart] | Exception]
    ) -> None:
        """Digest the collected tensors, small ones first: they are slow after many threads."""
        if not pack:
            return
        small = [waiting for waiting in pack if waiting.words.numel() <= SMALL]
        large = [waiting for waiting in pack if waiting.words.numel() > SMALL]
        try:
            wide = [torch.cat([w.words for w in small]).to(torch.int64)] if small else []
            sums = [self._chunk_sums(w.words) for w in large]
            counts = [w.words.numel() for w in small], [s.numel() for s in sums]
            keys, borders = self._pack_keys(*counts)
            products = torch.cat([*wide, *sums]).mul_(keys)
            upto = products.new_zeros(products.numel() + 1)
            torch.cumsum(products, 0, out=upto[1:])
            totals = upto[borders].diff().unbind()
        except Exception:  # out of memory: digest each on its own
            for words, seed, place in pack:
                try:
                    digests[place] = [self._digest_words(words, seed)]
                except Exception as error:
                    digests[place] = error
            return
        for waiting, total in zip([*small, *large], totals):  # noqa: B905 - Python 3.9
            digests[waiting.place] = [DigestPart(total, waiting.seed)]

    def digest_all(self, tensors: list[Tensor]) -> list[str]:
        """The digests of many tensors; an empty text for one that has none."""
        started = self.start_all(tensors)
        digests = iter(self.finish([p for p in started if not isinstance(p, Exception)]))
        return ["" if isinstance(parts, Exception) else next(digests) for parts in started]

    @staticmethod
    def finish(parts: list[list[DigestPart]]) -> list[str]:
        """Fetch the sums of many digests, 8 bytes each, and return them as 16 hex digits."""
        totals: dict[torch.device, list[Tensor]] = {}
        for part in chain.from_iterable(parts):
            totals.setdefault(part.total.device, []).append(part.total)
        fetched = {device: iter(torch.stack(sums).tolist()) for device, sums in totals.items()}
        texts = []
        for tensor_parts in parts:
            value = len(tensor_parts)
            for part in tensor_parts:
                value = mix(value ^ mix((next(fetched[part.total.device]) & MASK) ^ part.seed))
            texts.append(f"{value:016x}")
        return texts

    def _digest_words(self, words: Tensor, seed: int) -> DigestPart:
        keys, chunk_keys = self._device_keys(words.device)
        count = words.numel()
        if words.device.type != "cpu":
            return DigestPart(self._on_device(words, keys, chunk_keys), seed)
        if count <= CHUNK:
            # the key of the first chunk is 1
            return DigestPart(torch.dot(words.to(torch.int64), keys[:count]), seed)
        return DigestPart(_combined(self._chunk_sums(words), chunk_keys), seed)

    def _chunk_sums(self, words: Tensor) -> Tensor:
        """The sum of each chunk's products, on a CPU."""
        keys, _ = self._device_keys(words.device)
        threads = torch.get_num_threads()
        block_chunks = min(BLOCK * threads, MOST_CHUNKS)
        if self._buffer is None or len(self._buffer) != block_chunks:
            self._buffer = torch.empty((block_chunks, CHUNK), dtype=torch.int64)
        sums = []
        full = words.numel() // CHUNK
        for first in range(0, full, block_chunks):
            last = min(first + block_chunks, full)
            block = self._buffer[: last - first]
            block.copy_(words[first * CHUNK : last * CHUNK].view(-1, CHUNK))
            # a product of integers has one thread, a sum has all of them
            sums.append(block.mul_(keys).sum(1) if threads > 1 else torch.mv(block, keys))
        rest = words[full * CHUNK :]
        if rest.numel():
            sums.append(torch.dot(rest.to(torch.int64), keys[: rest.numel()]).view(1))
        return _joined(sums)

    def _pack_keys(self, words: list[int], chunks: list[int]) -> tuple[Tensor, Tensor]:
        """The keys for tensors with these numbers of words or chunks, and their boundaries."""
        sizes = (*words, -1, *chunks)
        pack = self._packs.get(sizes)
        if pack is None:
            if self._pack_words + sum(words) + sum(chunks) > MOST_KEPT:
                self._packs.clear()
                self._pack_words = 0
            keys, chunk_keys = self._device_keys(torch.device("cpu"))
            parts = [*(keys[:count] for count in words), *(chunk_keys[:count] for count in chunks)]
            borders = torch.tensor([0, *words, *chunks]).cumsum(0)
            pack = self._packs[sizes] = (torch.cat(parts), borders)
            self._pack_words += pack[0].numel()
        return pack

    @staticmethod
    def _on_device(words: Tensor, keys: Tensor, chunk_keys: Tensor) -> Tensor:
        sums = []
        for first in range(0, words.numel(), CHUNK * DEVICE_BLOCK):
            block = words[first : first + CHUNK * DEVICE_BLOCK]
            full = block.numel() // CHUNK
            if full:
                wide = block[: full * CHUNK].view(full, CHUNK).to(torch.int64)
                sums.append((wide * keys).sum(1))
            rest = block[full * CHUNK :]
            if rest.numel():
                sums.append((rest.to(torch.int64) * keys[: rest.numel()]).sum().view(1))
        if not sums:
            return torch.zeros((), dtype=torch.int64, device=words.device)
        return _combined(_joined(sums), chunk_keys)

    def _device_keys(self, device: torch.device) -> tuple[Tensor, Tensor]:
        known = self._keys.get(device)
        if known is None:
            places = _signed([mix(place) for place in range(CHUNK)])
            chunks = _signed([1, *(mix(CHUNK + place) | 1 for place in range(1, CHUNK))])
            known = self._keys[device] = (places.to(device), chunks.to(device))
        return known


def _joined(sums: list[Tensor]) -> Tensor:
    return sums[0] if len(sums) == 1 else torch.cat(sums)


def _combined(sums: Tensor, chunk_keys: Tensor) -> Tensor:
    """Sum the sums of chunks; beyond 32,768 chunks (4 GiB), level by level."""
    while sums.numel() > CHUNK:
        short = -sums.numel() % CHUNK
        padded = torch.cat([sums, sums.new_zeros(short)]).view(-1, CHUNK)
        sums = (padded * chunk_keys).sum(1)
    return (sums * chunk_keys[: sums.numel()]).sum()


def _belongs_together(words: Tensor) -> bool:
    """Whether a tensor is digested with others: on a CPU, small or with several chunks.

    For sizes in between, a single chunk is multiplied as quickly on its own.
    """
    count = words.numel()
    large = CHUNK < count <= CHUNK * CHUNK
    return words.device.type == "cpu" and (count <= SMALL or large)


def _words(tensor: Tensor) -> tuple[Tensor, int]:
    """The bytes of a dense tensor as 32-bit words, in logical order, zero-padded; and its seed.

    A copy is made only if the tensor is not contiguous, not aligned, or not whole words.
    """
    if tensor.is_conj():
        tensor = tensor.resolve_conj()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    flat = tensor.contiguous().view(-1)
    if flat.stride() != (1,):  # a single element is contiguous with any stride
        flat = flat.as_strided((flat.numel(),), (1,))
    width = flat.element_size()
    size = flat.numel() * width
    seed = _seed(tensor.dtype, tensor.shape, size)
    if width % 4 == 0 and flat.data_ptr() % 4 == 0:
        return flat.view(torch.int32), seed
    raw = flat.view(torch.uint8)
    short = -size % 4
    if short or raw.storage_offset() % 4 or raw.data_ptr() % 4:
        raw = torch.cat([raw, raw.new_zeros(short)])
    return raw.view(torch.int32), seed


@lru_cache(maxsize=4_096)
def _seed(dtype: torch.dtype, shape: torch.Size, size: int) -> int:
    return mix(zlib.crc32(f"{dtype} {list(shape)} {size}".encode()))


def dense_parts(tensor: Tensor) -> list[Tensor]:
    """The dense tensors that hold a tensor's data. Raises `NotRecorded`."""
    kind = type(tensor)
    if kind is Parameter and tensor.is_cpu and tensor.layout == torch.strided:
        _require_bytes(tensor)
        return [tensor.detach()]
    if tensor.device.type == "meta":
        raise NotRecorded("on the meta device")
    if kind.__name__ in OF_RANKS:
        return dense_parts(_local(tensor))
    if kind.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl:
        raise NotRecorded(kind.__name__)
    if is_lazy(tensor):
        raise NotRecorded("not initialized yet")
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    _require_bytes(tensor)
    return [tensor]


def _local(tensor: Tensor) -> Tensor:
    """The local shard of a tensor, without a collective; or the result of one that runs."""
    if type(tensor).__name__ == "AsyncCollectiveTensor":
        return tensor.wait()  # type: ignore[attr-defined,no-any-return]  # as its first use would
    return tensor._local_tensor  # type: ignore[attr-defined,no-any-return]


def _require_bytes(tensor: Tensor) -> None:
    """Raise `NotRecorded` for a tensor whose elements are not plain bytes in memory."""
    if tensor.is_nested or tensor.layout != torch.strided:
        raise NotRecorded(str(tensor.layout))
    if tensor.is_quantized:
        raise NotRecorded(str(tensor.dtype))
    if tensor.numel() and not tensor.untyped_storage().nbytes():
        raise NotRecorded("its memory is freed")  # reading it would crash the process
