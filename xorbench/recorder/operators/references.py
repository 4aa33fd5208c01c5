"""The references: one row per operator, with its formula, its bound and its properties.

Other packages add rows by entry points of the group `xorbench.references`. An entry point has the
name of the operator, with a dot for `::`, and names a mapping of the fields of `Reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import formulas, products, properties
from .properties import Property


class Bound:
    """Kinds of bound. Operators without one are random, uninitialized, or not unique."""

    BITS = "bits"  # moves, which also keep the sign of zero
    EXACT = "exact"  # comparisons, integers
    ROUNDED = "rounded"  # correctly rounded: add, multiply, divide, square root
    SUM = "sum"  # the error grows with the number of terms
    FUNCTION = "function"  # a special function, accurate to a few units in the last place
    POSITIONS = "positions"  # computes positions in an image and interpolates
    STEPS = "steps"  # the errors of its steps
    RANDOM, UNINITIALIZED, NOT_UNIQUE = "random", "uninitialized", "not unique"


class Reference(NamedTuple):
    """How the result of an operator is judged.

    Attributes:
        bound: the kind of bound, of the class `Bound`.
        formula: the formula in float64; None for a decomposition, else the operator in float64.
        properties: returns an error, an empty text if the result is correct, or None if the formula
            decides.
        low: whether the operator may round its intermediates to bfloat16 or float16.
        low_sums: whether accelerators may keep its sums in a low precision (pytorch#180155).
    """

    bound: str = Bound.STEPS
    formula: Callable[..., Any] | None = None
    properties: Property | None = None
    low: bool = False
    low_sums: bool = False


def _numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    def formula(*args: Any, **kwargs: Any) -> Tensor:
        arrays = (a.detach().numpy() if isinstance(a, Tensor) else a for a in args)
        kwargs.pop("dtype", None)
        with np.errstate(all="ignore"):  # np.array keeps 0 dimensions
            return torch.from_numpy(np.array(function(*arrays, **kwargs)))

    return formula


def _sum(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    return np.sum(x, axis=dims or None, keepdims=keepdim)


# Steps of references that do not use PyTorch's kernels, which may be the faulty ones.
FUNCTIONS = "exp log tanh sin cos log1p expm1 log2 exp2 sqrt square reciprocal maximum minimum abs"
NUMPY = {name: _numpy(getattr(np, name)) for name in FUNCTIONS.split()}
NUMPY.update({
    "mm": _numpy(np.matmul),
    "bmm": _numpy(np.matmul),
    "sum": _numpy(_sum),
    "add": _numpy(lambda x, y, alpha=1: x + (y if alpha == 1 else alpha * y)),
    "sub": _numpy(lambda x, y, alpha=1: x - (y if alpha == 1 else alpha * y)),
    "mul": _numpy(lambda x, y: x * y),
    "div": _numpy(lambda x, y: x / y),
    "neg": _numpy(np.negative),
    "index_select": _numpy(lambda x, dim, index: np.take(x, index.reshape(-1), dim)),
    "embedding": _numpy(lambda table, index, *_: table[index]),
    "flip": _numpy(lambda x, dims: np.flip(x, tuple(dims))),
})  # fmt: skip


def independent(name: str, args: Any, kwargs: Any) -> Callable[..., Any] | None:
    """The step by NumPy, of a floating-point tensor; None if there is none."""
    first = args[0] if args else None
    fits = isinstance(first, Tensor) and first.is_floating_point() and first.dim()
    return NUMPY.get(name) if fits and set(kwargs) <= {"alpha", "dtype"} else None


BOUNDS = {
    Bound.BITS: """view _unsafe_view reshape permute transpose t expand slice select squeeze
    unsqueeze clone copy detach alias cat stack split split_with_sizes unbind index gather
    index_select where flip roll diagonal as_strided contiguous zeros ones full zeros_like
    ones_like full_like new_zeros new_ones new_full scalar_tensor fill zero masked_fill
    constant_pad_nd repeat unfold _to_copy to broadcast_in_dim convert_element_type view_of
    collapse_view split_dim lift_fresh neg tril triu index_copy eye real imag conj view_as_real
    view_as_complex complex _local_scalar_dense narrow lift_fresh_copy item expand_copy view_copy
    masked_select take device_put _conj _neg_view resolve_conj resolve_neg copy_to copy_strided
    rev slice_in_dim unfold_copy rot90 copysign embedding pixel_shuffle pixel_unshuffle
    channel_shuffle reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d""",
    Bound.EXACT: """arange amax amin maximum minimum max min clamp clamp_min clamp_max relu abs
    sign eq ne lt gt le ge isnan isinf isfinite floor ceil round trunc sort topk argmax argmin
    index_put bitwise_and bitwise_or bitwise_not logical_and logical_or logical_not threshold
    nextafter frexp signbit nonzero cummax cummin iota sgn fmax fmin searchsorted bucketize
    heaviside hardtanh all any bincount tril_indices triu_indices unique_dim _unique2
    is_same_size""",
    Bound.ROUNDED: "add sub rsub mul div sqrt reciprocal square true_divide fma",
    Bound.SUM: """sum mean var std var_mean prod cumsum logcumsumexp cumprod norm
    linalg_vector_norm logsumexp std_mean nansum trace scatter_add scatter_reduce index_put_acc
    _unsafe_index_put index_reduce dot mv vdot mm bmm""",
    Bound.FUNCTION: """erf erfc lgamma digamma polygamma erfinv igamma igammac mvlgamma i0 i1
    sinc bessel_i0 bessel_i1 bessel_i0e bessel_i1e bessel_j0 bessel_j1 spherical_bessel_j0
    erf_inv erfcx ndtri zeta""",
    Bound.POSITIONS: """grid_sampler_3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward grid_sampler_2d_backward
    upsample_bicubic2d_backward grid_sampler_3d_backward""",
    Bound.RANDOM: """bernoulli_ normal_ native_dropout rand randn rand_like randn_like randint
    randperm multinomial random randint_like rrelu_with_noise geometric cauchy log_normal poisson
    binomial _fused_dropout _standard_gamma _sample_dirichlet normal_functional exponential
    uniform normal bernoulli fractional_max_pool2d fractional_max_pool3d""",
    Bound.UNINITIALIZED: """empty empty_like new_empty empty_strided new_empty_strided
    empty_permuted resize set record_stream is_pinned _resize_output""",
    Bound.NOT_UNIQUE: """linalg_eig _linalg_eigh _linalg_svd linalg_qr geqrf ormqr svd_lowrank
    linalg_householder_product linalg_lu_factor_ex linalg_lu lu_unpack""",
}
PREFIXES = ("", "masked_", "as_strided_", "slice_", "select_", "diagonal_")
BOUNDS[Bound.BITS] += " ".join(("", *(f"{kind}scatter" for kind in PREFIXES)))
LOW = """mkldnn_rnn_layer mkldnn_rnn_layer_backward _thnn_fused_lstm_cell _thnn_fused_gru_cell
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_flash_attention_for_cpu_backward
    _scaled_dot_product_flash_attention_backward _log_softmax _log_softmax_backward_data _softmax
    _softmax_backward_data native_batch_norm native_batch_norm_backward _embedding_bag
    _embedding_bag_forward_only batch_norm_backward upsample_bilinear2d upsample_bicubic2d
    upsample_linear1d upsample_trilinear3d grid_sampler_2d upsample_bilinear2d_backward
    upsample_bicubic2d_backward grid_sampler_3d linalg_matrix_exp pow nll_loss_forward
    nll_loss2d_forward _native_batch_norm_legit _batch_norm_with_update rsqrt
    binary_cross_entropy_with_logits soft_margin_loss logit xlogy special_entr special_i0e
    _trilinear addbmm addr linalg_cross renorm prod polygamma mvlgamma ldexp dist
    mse_loss mse_loss_backward huber_loss huber_loss_backward smooth_l1_loss smooth_l1_loss_backward
    binary_cross_entropy binary_cross_entropy_backward soft_margin_loss_backward glu_backward
    logit_backward special_xlog1py avg_pool2d_backward avg_pool3d_backward
    _adaptive_avg_pool2d_backward grid_sampler_2d_backward grid_sampler_3d_backward"""
LOW_SUMS = "cumsum cumprod logcumsumexp"
PRIVATE = {"_ctc_loss": (1,), "mkldnn_rnn_layer": (3,)}  # outputs with uninitialized memory

FORMULAS: dict[str, Callable[..., Any]] = {
    "convolution": products.convolution,
    "convolution_overrideable": products.convolution,
    "convolution_backward": products.convolution_backward,
    "convolution_backward_overrideable": products.convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": formulas.attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": formulas.attention_backward,
    "embedding_dense_backward": formulas.embedding_backward,
    "index_add": formulas.index_add,
    "index_put": formulas.index_put,
    "_index_put_impl": formulas.index_put,
    "_embedding_bag": formulas.embedding_bag,
    "_embedding_bag_forward_only": formulas.embedding_bag,
    "_embedding_bag_dense_backward": formulas.embedding_bag_backward,
    "native_batch_norm": formulas.batch_norm,
    "_ctc_loss": formulas.ctc_loss,
    "_ctc_loss_backward": formulas.ctc_loss_backward,
    "mkldnn_rnn_layer": formulas.rnn_layer,
    "mkldnn_rnn_layer_backward": formulas.rnn_layer_backward,
    "linalg_matrix_exp": formulas.matrix_exp,
    "_linalg_det": formulas.determinant,
    "_amp_update_scale_": formulas.update_scale,
}
PROPERTIES: dict[str, Property] = {
    "max": properties.extreme("amax"),
    "min": properties.extreme("amin"),
    "argmax": properties.extreme_index("amax"),
    "argmin": properties.extreme_index("amin"),
    "topk": properties.top,
    "sort": properties.sort,
    "bernoulli": properties.bernoulli(None),
    "bernoulli_": properties.bernoulli(0.5),
    "native_dropout": properties.dropout,
    "uniform": properties.distributed(properties.uniform, 0.0, 1.0),
    "rand": properties.distributed(lambda x: properties.uniform(x, 0.0, 1.0)),
    "normal_": properties.distributed(properties.normal, 0.0, 1.0),
    "randn": properties.distributed(lambda x: properties.normal(x, 0.0, 1.0)),
    "exponential": properties.distributed(properties.exponential, 1.0),
    "randint": properties.whole_numbers,
    "randperm": properties.permutation,
    "_linalg_svd": properties.svd,
    "_linalg_eigh": properties.eigh,
    "linalg_qr": properties.qr,
    "as_strided": properties.as_strided,
    "floor_divide": properties.floor_division,
}
for axes in (1, 2, 3):
    average, adaptive = products.average_pool(axes), products.adaptive_pool(axes, largest=False)
    prefix = "" if axes == 1 else "_"
    FORMULAS.update({
        f"max_pool{axes}d_with_indices": products.max_pool(axes),
        f"max_pool{axes}d_with_indices_backward": products.by_index(axes),
        f"adaptive_max_pool{axes}d": products.adaptive_pool(axes, largest=True),
        f"adaptive_max_pool{axes}d_backward": products.by_index(axes),
        f"avg_pool{axes}d": average,
        f"avg_pool{axes}d_backward": products.pool_gradient(average),
        f"{prefix}adaptive_avg_pool{axes}d": adaptive,
        f"{prefix}adaptive_avg_pool{axes}d_backward": products.adaptive_gradient(axes),
    })  # fmt: skip
    for kind, middle in (("upsample_nearest", 0.0), ("_upsample_nearest_exact", 0.5)):
        nearest = products.nearest(axes, middle)
        FORMULAS[f"{kind}{axes}d"] = nearest
        FORMULAS[f"{kind}{axes}d_backward"] = products.nearest_gradient(nearest)
    for name in (f"max_pool{axes}d_with_indices", f"adaptive_max_pool{axes}d"):
        PROPERTIES[name] = properties.pooled(axes)
PROPERTIES["rand_like"], PROPERTIES["randn_like"] = PROPERTIES["rand"], PROPERTIES["randn"]
PROPERTIES["randint_like"] = PROPERTIES["randint"]


def _own() -> dict[str, Reference]:
    rows: dict[str, Reference] = {}
    for bound, names in BOUNDS.items():
        rows.update({name: Reference(bound) for name in names.split()})
    for name in {*FORMULAS, *PROPERTIES, *LOW.split(), *LOW_SUMS.split()}:
        rows[name] = rows.get(name, Reference())._replace(
            formula=FORMULAS.get(name),
            properties=PROPERTIES.get(name),
            low=name in LOW.split(),
            low_sums=name in LOW_SUMS.split(),
        )
    return rows


def _added() -> dict[str, Reference]:
    """The references of other packages."""
    points = entry_points()
    group = "xorbench.references"
    own = points.select(group=group) if hasattr(points, "select") else points.get(group, ())
    return {point.name.replace(".", "::", 1): Reference(**point.load()) for point in own}


REFERENCES = _own()
ADDED = _added()


def plain_name(func: Any) -> str:
    """The name of an operator without its namespace and the underscore of the in-place form."""
    name = str(func._schema.name).partition("::")[2]
    if name in REFERENCES or name.startswith("__"):
        return name
    return name.rstrip("_") if not name.startswith("_foreach") else name


def reference_of(func: Any) -> Reference:
    """The row of an operator; an operator without a row is judged by the errors of its steps."""
    added = getattr(func, "reference", None) or ADDED.get(func._schema.name)
    return added or REFERENCES.get(plain_name(func)) or Reference()
