"""Formulas in float64 for operators without a decomposition, or whose decomposition is a kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .noise import product
from .products import gradient


def _scores(q: Tensor, k: Tensor, causal: bool, mask: Any, scale: Any) -> Tensor:
    scores = torch.matmul(q, k.transpose(-2, -1)) * (scale or 1 / math.sqrt(q.shape[-1]))
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).tril().logical_not()
        scores = scores.masked_fill(hidden, -math.inf)
    if mask is not None and mask.dtype == torch.bool:
        return scores.masked_fill(mask.logical_not(), -math.inf)
    return scores if mask is None else scores + mask


def _shared(q: Tensor, *kv: Tensor) -> Any:
    """Keys and values with one head per head of the queries."""
    return (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in kv)


def _summed(grad: Tensor, k: Tensor) -> Tensor:
    return grad.unflatten(1, (k.shape[1], -1)).sum(2) if grad.shape[1] != k.shape[1] else grad


def attention(
    q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, is_causal: bool = False, *,
    attn_mask: Any = None, scale: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if dropout:
        raise NotImplementedError("dropout in attention")
    k, v = _shared(q, k, v)
    scores = _scores(q, k, is_causal, attn_mask, scale)
    top = scores.amax(-1, keepdim=True)
    hidden = top == -math.inf  # rows without a key have zeros
    weights = torch.exp(scores - top.masked_fill(hidden, 0.0))
    total = weights.sum(-1, keepdim=True).masked_fill(hidden, 1.0)
    logsumexp = (top + torch.log(total)).masked_fill(hidden, 0.0)
    return torch.matmul(weights / total, v), logsumexp.squeeze(-1)


def attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor,
    dropout: float, is_causal: bool, *, attn_mask: Any = None, scale: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if dropout:
        raise NotImplementedError("dropout in attention")
    keys, values = _shared(q, k, v)
    weights = torch.exp(_scores(q, keys, is_causal, attn_mask, scale) - logsumexp.unsqueeze(-1))
    inner = torch.matmul(grad, values.transpose(-2, -1)) - (grad * out).sum(-1, keepdim=True)
    inner = weights * inner * (scale or 1 / math.sqrt(q.shape[-1]))
    gk, gv = (torch.matmul(w.transpose(-2, -1), x) for w, x in ((inner, q), (weights, grad)))
    return torch.matmul(inner, keys), _summed(gk, k), _summed(gv, v)


# Embeddings


def _scatter_rows(count: int, index: Tensor, rows: Tensor) -> Tensor:
    out = torch.zeros(count, *rows.shape[1:], dtype=rows.dtype)
    return out.index_add(0, index, rows)


def embedding_backward(
    grad: Tensor, index: Tensor, count: int, padding: int = -1, scale: bool = False
) -> Tensor:
    index, rows = index.reshape(-1), grad.reshape(-1, grad.shape[-1])
    if scale:
        rows = rows / torch.bincount(index, minlength=count)[index].unsqueeze(-1)
    rows = rows.masked_fill((index == padding).unsqueeze(-1), 0.0)
    return _scatter_rows(count, index, rows)


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    if x.dim() == 0:
        return x + source.reshape(-1).sum() * alpha
    rows = x.movedim(dim, 0)
    places = index.reshape(-1).numpy()
    most = float(np.max(np.bincount(places))) if len(places) else 1.0

    def total(added: Tensor) -> Tensor:
        out = np.zeros(tuple(rows.shape), dtype=added.numpy().dtype)
        np.add.at(out, places, added.numpy())
        return torch.from_numpy(out)

    added = product(total, most, source.movedim(dim, 0))
    return (rows + added * alpha).movedim(0, dim)


def index_put(x: Tensor, index: Any, values: Tensor, accumulate: bool = False, *_: Any) -> Tensor:
    index = tuple(slice(None) if i is None else i for i in index)
    if not accumulate:
        out = x.numpy().copy()
        out[tuple(i.numpy() if isinstance(i, Tensor) else i for i in index)] = values.numpy()
        return torch.from_numpy(out)
    places = torch.arange(x.numel()).reshape(x.shape)[index]
    flat = values.expand(places.shape).reshape(-1)
    return x.reshape(-1).index_add(0, places.reshape(-1), flat).reshape(x.shape)


def embedding_bag(
    weight: Tensor, index: Tensor, offsets: Tensor, _scale: bool = False, mode: int = 0,
    _sparse: bool = False, factors: Any = None, last: bool = False, padding: int = -1,
) -> tuple[Any, ...]:  # fmt: skip
    bags = offsets.numel() - int(last)
    starts = offsets[:bags]
    bag = torch.searchsorted(starts, torch.arange(index.numel()), right=True) - 1
    kept = index != padding
    rows = weight[index] * (1 if factors is None else factors.unsqueeze(-1))
    rows = rows.masked_fill(kept.logical_not().unsqueeze(-1), 0.0)
    if mode == 2:
        members = [(bag == b) & kept for b in range(bags)]
        empty = weight.new_zeros(weight.shape[1])
        out = torch.stack([rows[m].amax(0) if bool(m.any()) else empty for m in members])
    else:
        out = _scatter_rows(bags, bag, rows)
        if mode == 1:
            out = out / torch.bincount(bag[kept], minlength=bags).clamp(min=1).unsqueeze(-1)
    return out, None, None, None  # the other outputs are private to the backward formula


def embedding_bag_backward(
    grad: Tensor, index: Tensor, bag: Tensor, sizes: Tensor, largest: Tensor, count: int,
    scale: bool, mode: int, factors: Any, padding: int = -1,
) -> Tensor:  # fmt: skip
    if mode == 2:
        out = torch.zeros(count, grad.shape[1], dtype=grad.dtype)
        held = (sizes > 0).unsqueeze(-1)
        return out.scatter_add(0, largest.clamp(min=0), torch.where(held, grad, 0.0 * grad))
    rows = grad[bag]
    if mode == 1:
        rows = rows / sizes[bag].unsqueeze(-1)
    if factors is not None:
        rows = rows * factors.unsqueeze(-1)
    return embedding_backward(rows, index, count, padding, scale)


# Normalization and losses


def batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
    m = x.mean(dims) if training else mean
    centered = x - m.reshape(shape)
    v = (centered * centered).mean(dims) if training else var
    if training and mean is not None:
        count = x.numel() // x.shape[1]
        mean.copy_((1 - momentum) * mean + momentum * m)
        var.copy_((1 - momentum) * var + momentum * v * (count / max(count - 1, 1)))
    r = torch.rsqrt(v + eps)
    y = centered * r.reshape(shape)
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return (y, m, r) if training else (y, x.new_zeros(0), x.new_zeros(0))


def _ctc(lp: Tensor, targets: Any, inputs: Any, lengths: Any, blank: int, zero: bool) -> Tensor:
    """The loss of each sequence, by the forward recursion."""
    losses, start = [], 0
    for b, (steps, length) in enumerate(zip(inputs, lengths)):  # noqa: B905 - Python 3.9
        flat = targets[start : start + length] if targets.dim() == 1 else targets[b, :length]
        start += length
        labels = torch.full((2 * length + 1,), blank, dtype=torch.long)
        labels[1::2] = flat
        emitted = lp[:steps, b][:, labels]
        closed = torch.full((2,), -math.inf, dtype=lp.dtype)
        skips = torch.zeros(labels.shape, dtype=torch.bool)
        skips[2:] = (labels[2:] != blank) & (labels[2:] != labels[:-2])
        first = torch.arange(2 * length + 1) < 2
        alpha = torch.where(first, emitted[0], torch.full_like(emitted[0], -math.inf))
        for t in range(1, steps):
            moved = torch.cat([closed, alpha])
            skip = torch.where(skips, moved[:-2], torch.full_like(alpha, -math.inf))
            paths = torch.stack([alpha, moved[1:-1], skip])
            top = paths.amax(0).clamp(min=-1e300).detach()
            # the clamp keeps the gradient of log(0) finite
            total = torch.exp(paths - top).sum(0)
            alpha = torch.where(total > 0, torch.log(total.clamp(min=1e-300)) + top, -math.inf)
            alpha = alpha + emitted[t]
        ends = alpha[-2:] if length else alpha[-1:]
        losses.append(-torch.logsumexp(ends, 0))
    total = torch.stack(losses)
    return torch.where(torch.isinf(total), 0.0 * total.detach(), total) if zero else total


def ctc_loss(
    lp: Tensor, targets: Tensor, inputs: Any, lengths: Any, blank: int = 0, zero: bool = False
) -> tuple[Tensor, None]:
    values = _ctc(lp, targets, list(inputs), list(lengths), blank, zero=False)
    return values, None  # the second output is private to the backward formula


def ctc_loss_backward(
    grad: Tensor, lp: Tensor, targets: Tensor, inputs: Any, lengths: Any, _loss: Tensor,
    _alpha: Tensor, blank: int, zero: bool = False,
) -> Tensor:  # fmt: skip
    """The gradient for the inputs of the log-softmax that made `lp`, as PyTorch defines it."""

    def formula(leaf: Tensor) -> Tensor:
        return _ctc(leaf, targets, list(inputs), list(lengths), blank, zero)

    posterior = gradient(formula, [lp], [torch.ones_like(grad)])[0]
    present = torch.arange(lp.shape[0]).unsqueeze(1) < torch.as_tensor(list(inputs)).unsqueeze(0)
    out = (torch.exp(lp) + posterior) * grad.reshape(1, -1, 1)
    if zero:
        present = present & torch.isfinite(_loss).unsqueeze(0)
    return out.masked_fill(present.logical_not().unsqueeze(-1), 0.0)


# Recurrent layers of oneDNN


LSTM = 2  # the mode in ATen


def rnn_layer(
    x: Tensor, wi: Tensor, wh: Tensor, bi: Tensor, bh: Tensor, hx: Tensor, cx: Tensor,
    reverse: bool, _sizes: Any, mode: int, _hidden: int, _layers: int, biases: bool, *_: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """One layer and direction, time first; hx and cx have the shape [1, batch, hidden]."""
    if mode != LSTM:
        raise NotImplementedError("a recurrent layer other than LSTM")
    h, c = hx.reshape(hx.shape[-2:]), cx.reshape(cx.shape[-2:])
    outputs: list[Tensor] = []
    bias = bi + bh if biases else 0.0
    for t in range(x.shape[0] - 1, -1, -1) if reverse else range(x.shape[0]):
        gates = torch.matmul(x[t], wi.t()) + torch.matmul(h, wh.t()) + bias
        i, f, g, o = gates.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    y = torch.stack(outputs[::-1] if reverse else outputs)
    return y, h.reshape(hx.shape), c.reshape(cx.shape), None


def rnn_layer_backward(*args: Any) -> Any:
    """The gradients of the input, the weights and the states: the first 7 arguments."""
    (reverse, mode, hidden, layers, biases), grads = args[13:18], args[10:13]
    given = [i for i, grad in enumerate(grads) if grad is not None]

    def formula(*leaves: Any) -> list[Tensor]:
        outputs = rnn_layer(*leaves, reverse, (), mode, hidden, layers, biases)
        return [outputs[i] for i in given]

    return gradient(formula, args[:7], [grads[i] for i in given])


def matrix_exp(x: Tensor) -> Tensor:
    """Scaling and squaring with a Taylor series."""
    if not x.numel():
        return x
    norm = float(x.abs().sum(-2).max())
    halvings = max(0, math.ceil(math.log2(norm)) + 2) if 0 < norm < math.inf else 0
    scaled = x / 2**halvings
    out = term = torch.eye(x.shape[-1], dtype=x.dtype).expand(x.shape)
    for k in range(1, 25):
        term = torch.matmul(term, scaled) / k
        out = out + term
    for _ in range(halvings):
        out = torch.matmul(out, out)
    return out


def determinant(x: Tensor) -> tuple[Any, ...]:
    """With the error of a factorization, which grows with the size."""

    def compute(x: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(np.linalg.det(x.numpy())))

    return product(compute, x.shape[-1] ** 2, x), None, None


def update_scale(
    scale: Tensor, tracker: Tensor, found: Tensor, grown: float, backoff: float, interval: int
) -> Tensor:
    """The scale of a gradient scaler."""
    if bool(found):
        scale.mul_(backoff)
        tracker.zero_()
    elif int(tracker) + 1 == interval:
        if math.isfinite(float(scale) * grown):
            scale.mul_(grown)
        tracker.zero_()
    else:
        tracker.add_(1)
    return scale
