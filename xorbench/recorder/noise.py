"""Noise of rounding: each operator that rounds gets results that another correct kernel could give.

Each term of a sum and each rounded result is multiplied by 1 + r·eps, r = ±1 with probability 1/12
each and else 0, where eps is that of the precision in which the operator computes. The results of a
long sum get more: a kernel may add all terms to one number, whose error grows with their root. It
is uniform and of the same variance, since a small tensor may else have none in any run.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

SHARE = 1 / 12  # probability of each sign
POOL = 1 << 18  # factors drawn once: they stay in the cache; each use begins at a random one
BLOCK = 16  # terms that every kernel adds without more error than that of its terms
SAMPLE = 1 << 12  # elements of which neighbours are compared
FAST_KERNEL = 16.0  # times the noise of a sum: Winograd and FFT kernels of convolutions


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
EXACT = _names(
    """
    abs absolute amax amin aminmax argmax argmin as_strided assert_async block_diag bucketize
    cat ceil chunk_cat clamp clamp_max clamp_min clone col2im conj_physical constant_pad_nd
    copysign count_nonzero cummax cummin diag diag_embed diagonal embedding eq fill flip floor
    fmax fmin fmod fractional_max_pool2d gather ge gt hardshrink hardtanh heaviside im2col index
    index_fill index_select kthvalue le local_scalar_dense lt masked_fill masked_select max
    maximum median min minimum mode nan_to_num nanmedian native_dropout ne neg negative
    pack_padded_sequence pad_sequence pin_memory pixel_shuffle pixel_unshuffle relu relu6 repeat
    repeat_interleave resize resize_as resize_output roll rot90 round searchsorted
    select_backward set sgn sign signbit slice_backward sort stack t take threshold to_dense
    topk transpose tril triu trunc unfold_backward unique unique2 unsqueeze where zero
    """
)
EXACT_STARTS = (
    *("adaptive_max_pool", "is", "lift", "logical_", "max_pool", "max_unpool", "new_", "nonzero"),
    *("reflection_pad", "replication_pad", "unsafe_"),
)
# Their errors are relative to the terms, not to a result in which the terms cancel.
SUMS = _names(
    """
    addmm_activation addmv addr binary_cross_entropy binary_cross_entropy_with_logits cdist
    conv2d cumprod cumsum dist dot embedding_dense_backward euclidean_dist index_add index_put
    index_reduce istft kl_div linear logcumsumexp matmul mean mv nansum norm pdist prod renorm
    segment_reduce std stft sum svd trace transformer_encoder_layer_fwd triangular_solve
    trilinear unsafe_index_put unsafe_masked_index_put_accumulate var vdot
    """
)
SUMMING = (
    *("attention", "avg_pool", "cholesky", "convolution", "embedding_bag", "fft_", "grid_sampler"),
    *("gru", "linalg_", "logsumexp", "_loss", "lstm", "_norm", "rnn", "scatter_", "softmax"),
    *("std_", "var_"),
)
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "scaled_mm")
ROUNDS = (
    *("log_sigmoid", "upsample_", "fused_", "foreach_", "amp_foreach_", "glu", "prelu", "rrelu"),
    *("linspace", "logspace", "polar", "complex", "thnn_", "cosine_", "elu", "gelu", "hardswish"),
    *("hardsigmoid", "leaky_relu", "softplus", "mish", "masked_scale", "multiply", "subtract"),
    *("divide", "true_divide", "special_", "arc"),
)
GATHERED = ("embedding_dense_backward", "index_add", "index_put", "index_put_impl")
CONVERSIONS = ("to_copy", "copy")
REDUCTIONS = ("allreduce", "all_reduce", "reduce_scatter", "reduce")  # of ranks
ENDING = re.compile("_(backward(_data|_input)?|forward)$")


def base_name(func: Any) -> str:
    """The name of an operator without underscores around it."""
    return str(func.overloadpacket.__name__).strip("_")


@cache
def rule_of(func: Any) -> str:
    """How an operator rounds: `exact`, `rounds`, `sums`, `converts`, `reduces` ranks, `unknown`."""
    name = base_name(func)
    if "c10d" in func.namespace:
        return "reduces" if name.startswith(REDUCTIONS) else "exact"
    if func.namespace not in ("aten", "prims"):
        return "unknown"
    arguments = func._schema.arguments
    if any(a.alias_info is not None and not a.alias_info.is_write for a in arguments):
        return "exact"  # a view
    if rule := _listed_rule(name):
        return rule
    if torch.Tag.nondeterministic_seeded in func.tags:
        return "exact"
    is_rounded = torch.Tag.pointwise in func.tags or name.startswith(ROUNDS)
    return "rounds" if is_rounded else "unknown"


def _listed_rule(name: str) -> str:
    """The rule of the tables; empty for an operator in none."""
    plain = name.replace("foreach_", "")
    for text in (plain, ENDING.sub("", plain)):
        is_exact = text.startswith(EXACT_STARTS) or text.endswith(("_copy", "_like", "scatter"))
        if text in SUMS or text.endswith("mm"):
            return "sums"
        if text in CONVERSIONS:
            return "converts"
        if text in EXACT or (is_exact and not any(part in text for part in SUMMING)):
            return "exact"
    return "sums" if any(part in name for part in SUMMING) else ""


@cache
def written_by(func: Any) -> list[int]:
    """The positions of the arguments that an operator writes to."""
    name = base_name(func)
    if "batch_norm" in name and "backward" not in name:
        return [3, 4]  # running statistics, which the schema does not name
    arguments = enumerate(func._schema.arguments)
    return [i for i, a in arguments if a.alias_info is not None and a.alias_info.is_write]


def float_tensors(things: Any) -> Iterator[Tensor]:
    """The floating-point tensors among arguments or results; a complex one as pairs of numbers."""
    for thing in things:
        if isinstance(thing, (list, tuple)):
            yield from float_tensors(thing)
        elif isinstance(thing, Tensor) and thing.numel():
            real = torch.view_as_real(thing.resolve_conj()) if thing.is_complex() else thing
            if real.dtype in FLOATS:
                yield real


class Noise:
    """Runs operators with noise from its own generator.

    Attributes:
        unknown: the operators that ran without noise because their rounding is unknown.
    """

    def __init__(self, seed: int) -> None:
        self.unknown: set[str] = set()
        self._random = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(POOL, generator=generator, dtype=torch.float64)
        self._signs = (draws > 1 - SHARE).double() - (draws < SHARE).double()
        self._even = (2 * draws - 1) * (6 * SHARE) ** 0.5  # of the same variance, never 0
        self._pools: dict[tuple[torch.dtype, torch.device, float], Tensor] = {}

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator; its arguments and results have noise if it rounds."""
        rule, writes = rule_of(func), written_by(func)
        if rule == "exact" or next(float_tensors(args), None) is None:
            return func(*args, **kwargs)
        if rule == "reduces":  # it may return before it has written its result
            for tensor in float_tensors(args):
                self._disturb(tensor)
            return func(*args, **kwargs)
        if rule == "sums":
            precision = product_eps(func, next(float_tensors(args)).device.type)
            args = tuple(
                self._term(arg, precision) if i not in writes else arg for i, arg in enumerate(args)
            )
        out = func(*args, **kwargs)
        if rule == "unknown" and next(float_tensors([out]), None) is not None:
            self.unknown.add(str(func))
        elif rule in ("rounds", "sums") or (rule == "converts" and _loses_bits(args, out)):
            self._disturb_results(func, args, out, rule, writes)
        return out

    def _term(self, value: Any, precision: float) -> Any:
        """An argument of a sum with noise in each element; half precision is summed in float32."""
        if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
            return [self._term(part, precision) for part in value]
        if isinstance(value, Tensor) and value.is_complex():
            pairs = self._term(torch.view_as_real(value.resolve_conj()), precision)
            return torch.view_as_complex(pairs.contiguous())
        if not isinstance(value, Tensor) or value.dtype not in FLOATS[2:] or not value.dim():
            return value
        return value * self._factors(value, max(precision, _eps(value)) if value.numel() else 0.0)

    def _disturb_results(
        self, func: Any, args: Any, out: Any, rule: str, writes: list[int]
    ) -> None:
        written = [args[i] for i in writes if i < len(args)]
        both = [written, out] if rule == "sums" or not written else [written]
        for tensor in {id(tensor): tensor for tensor in float_tensors(both)}.values():
            if tensor.dim() or not written:  # else a counter
                if rule == "sums" and tensor.dtype in FLOATS[2:]:  # half is summed in float32
                    self._disturb_sum(base_name(func), args, out, tensor)
                else:
                    self._disturb(tensor)

    def _disturb_sum(self, name: str, args: Any, out: Any, result: Tensor) -> None:
        length, dims = sum_length(name, args, out, result), summed_dims(name, args, result)
        run = repeats(args[0], dims) if dims else 1.0
        times = growth(run * length * (BLOCK / 2 if "batch_norm" in name else 1))  # channels_last
        if "batch_norm" in name and result.dim() > 1:
            self._disturb_channels(result, times * _eps(result), backward="backward" in name)
            times = 1.0
        times = max(times, FAST_KERNEL) if "convolution" in name else times
        if not dims:
            self._disturb(result, times)
            return
        size = (run * args[0].to(result.dtype).square().sum(dims)).sqrt().view(result.shape)
        size = (size / length if name == "mean" else size).maximum(result.abs())
        result.add_(size * (self._factors(result, times * _eps(result)) - 1))  # terms may cancel

    def _disturb_channels(self, result: Tensor, eps: float, *, backward: bool) -> None:
        """The error of a mean is shared by its channel; the backward pass subtracts a mean."""
        shape = [1, result.shape[1], *([1] * (result.dim() - 2))]
        channels = self._factors(result.new_empty(shape), eps)
        if not backward:
            result.mul_(channels)
            return
        size = result.square().mean([0, *range(2, result.dim())], keepdim=True).sqrt()
        some = self._factors(result, _eps(result)) != 1  # a sixth: less than eps would be lost
        result.add_(size * (channels - 1) * some)

    def _disturb(self, tensor: Tensor, times: float = 1.0) -> None:
        tensor.mul_(self._factors(tensor, times * _eps(tensor)))

    def _factors(self, tensor: Tensor, eps: float) -> Tensor:
        key = tensor.dtype, tensor.device, eps
        pool, count = self._pools.get(key), tensor.numel()
        if pool is None:
            kind = self._signs if eps == _eps(tensor) else self._even
            pool = self._pools[key] = (1 + eps * kind).to(tensor.device, tensor.dtype)
        if count > POOL // 2:
            pool = pool.repeat(2 + count // POOL).roll(self._random.randrange(POOL))
        start = self._random.randrange(pool.numel() - count + 1)
        return pool[start : start + count].view(tensor.shape)


def _eps(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps


def _loses_bits(args: Any, out: Any) -> bool:
    """Whether a conversion rounds."""
    source, target = next(float_tensors(args[-1:]), None), next(float_tensors([out]), None)
    return source is not None and target is not None and _eps(target) > _eps(source)


def growth(length: float) -> float:
    """The noise of a sum of so many terms relative to that of one result, a power of 2."""
    times = 1.0
    while length > BLOCK * (2 * times) ** 2:
        times *= 2
    return times


def sum_length(name: str, args: Any, out: Any, result: Tensor) -> float:
    """The number of terms of each element of a result."""
    if name in PRODUCTS:
        return float(args[name.startswith(("add", "badd"))].shape[-1])
    if "convolution" in name and "backward" not in name:
        return float(args[1].numel() / args[1].shape[0])
    if "embedding_bag" in name and len(_integers(args)) > 1:
        backward, indices = "backward" in name, args[1]
        most, bags = _most(indices), args[0].shape[0] if backward else args[2].numel()
        # an index that occurs several times in a bag adds equal terms
        return float((most if backward else indices.numel() / bags) * max(1.0, most / bags))
    if name in GATHERED and _integers(args):
        return max(map(_most, _integers(args)))
    largest = max(tensor.numel() for tensor in float_tensors(args))
    parts = [t.numel() for t in float_tensors([out])] if "backward" not in name else []
    return max(1.0, largest / min([result.numel(), *parts]))


def _integers(things: Any) -> list[Tensor]:
    nested = [thing for t in things for thing in (t if isinstance(t, (list, tuple)) else [t])]
    return [t for t in nested if isinstance(t, Tensor) and t.dtype == torch.int64 and t.numel()]


def _most(indices: Tensor) -> float:
    """The number of times that the most frequent index occurs."""
    return float(torch.unique(indices, return_counts=True)[1].max())


def repeats(terms: Tensor, dims: list[int]) -> float:
    """The mean number of equal terms in a row, in a sum over dimensions: they all round one way.

    The gradient of a mean is such a tensor. Zeros do not round and are skipped.
    """
    sizes = {dim: terms.shape[dim] for dim in dims}
    for dim in set(range(terms.dim())) - set(dims):
        terms = terms.narrow(dim, 0, min(8, terms.shape[dim]))
    while terms.numel() > SAMPLE:
        longest = max(dims, key=lambda dim: terms.shape[dim])
        terms = terms.narrow(longest, 0, terms.shape[longest] // 2)
    times = 1.0
    for dim in dims:
        pairs = terms.shape[dim] - 1
        one, two = terms.narrow(dim, 0, pairs), terms.narrow(dim, 1, pairs)
        filled = (one != 0) & (two != 0)
        near = (one - two).abs() <= BLOCK * _eps(terms) * two.abs()
        equal, count = int((near & filled).sum()), int(filled.sum())
        times *= min(sizes[dim], count / max(count - equal, 1e-9)) if count else 1.0
    return times


def summed_dims(name: str, args: Any, result: Tensor) -> list[int]:
    """The dimensions over which an operator adds the elements of its first argument."""
    terms = args[0]
    is_long = isinstance(terms, Tensor) and terms.numel() >= BLOCK * result.numel()
    if not is_long or not terms.is_floating_point():
        return []
    dims = list(range(terms.dim()))
    if name in ("sum", "mean"):
        given = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
        dims = sorted({dim % len(dims) for dim in given}) or dims
    elif not name.endswith("backward") or result.dim() > 1:
        return []
    elif "layer_norm" in name or "rms_norm" in name:
        dims = dims[:-1]
    else:  # a convolution, or a norm of channels
        dims.remove(min(1, len(dims) - 1))
    is_all = result.numel() * math.prod(terms.shape[dim] for dim in dims) == terms.numel()
    return dims if is_all else []


def product_eps(func: Any, device: str) -> float:
    """The precision of the float32 products of an operator, by the settings of PyTorch."""
    name, reduced = base_name(func), 0.0
    if "convolution" not in name and "attention" not in name and name not in PRODUCTS:
        return reduced
    kind = "conv" if "convolution" in name else "matmul"
    backends: Any = torch.backends
    with contextlib.suppress(AttributeError, RuntimeError):  # names differ between versions
        if device == "cpu":
            setting = getattr(backends.mkldnn, kind).fp32_precision
            reduced = {"bf16": 2**-7, "tf32": 2**-10}.get(setting, 0.0)
        elif device == "cuda":
            tf32 = backends.cudnn.allow_tf32 if kind == "conv" else backends.cuda.matmul.allow_tf32
            reduced = 2**-10 if tf32 else 0.0
    return reduced
