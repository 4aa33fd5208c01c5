"""The references: one row per operator, with its formula, its bound and its properties.

Other packages add rows by entry points of the group `xorbench.references`. An entry point has the
name of the operator, with a dot for `::`, and names a mapping of the fields of `Reference`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_flatten

from ..noise import written_by
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
        private: the positions of outputs that are not compared: uninitialized, or not unique.
        rows: the positions of the arguments that have a row per row of the result.
    """

    bound: str = Bound.STEPS
    formula: Callable[..., Any] | None = None
    properties: Property | None = None
    low: bool = False
    low_sums: bool = False
    private: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()


KINDS = ("", "masked_", "as_strided_", "slice_", "select_", "diagonal_")
BY_INDEX = "".join(f" {kind}scatter" for kind in KINDS)
# The rows: for each field of `Reference`, its values and the operators that have them.
TABLE: dict[str, dict[Any, str]] = {
    "bound": {
        Bound.BITS: """_unsafe_view reshape transpose t slice squeeze unsqueeze clone copy detach
        cat stack split index gather index_select where flip roll as_strided zeros ones full
        zeros_like ones_like full_like new_zeros new_ones new_full scalar_tensor fill zero
        masked_fill constant_pad_nd repeat _to_copy convert_element_type neg tril triu index_copy
        eye complex _local_scalar_dense lift_fresh_copy item expand_copy view_copy masked_select
        take device_put copy_to copy_strided rev unfold_copy rot90 copysign embedding pixel_shuffle
        pixel_unshuffle channel_shuffle reflection_pad1d reflection_pad2d replication_pad1d
        replication_pad2d"""
        + BY_INDEX,
        Bound.EXACT: """arange amax amin maximum minimum max min clamp clamp_min clamp_max relu abs
        sign eq ne lt gt le ge isnan isinf isfinite floor ceil round trunc sort topk argmax argmin
        index_put bitwise_and bitwise_or bitwise_not logical_and logical_or logical_not threshold
        nextafter frexp signbit nonzero cummax cummin iota sgn fmax fmin searchsorted bucketize
        heaviside hardtanh all any bincount tril_indices triu_indices unique_dim _unique2
        is_same_size""",
        Bound.ROUNDED: """add sub rsub mul div sqrt reciprocal square true_divide fma""",
        Bound.SUM: """sum mean var prod cumsum logcumsumexp cumprod linalg_vector_norm
        scatter_add scatter_reduce index_put_acc
        _unsafe_index_put index_reduce dot mv vdot mm bmm linalg_lstsq _linalg_solve_ex
        linalg_inv_ex linalg_cholesky_ex cholesky_solve linalg_solve_triangular triangular_solve
        linalg_lu_solve linalg_ldl_solve cholesky_inverse _linalg_slogdet""",
        Bound.FUNCTION: """erf erfc lgamma digamma polygamma erfinv igamma igammac mvlgamma i0 i1
        sinc bessel_i0 bessel_i1 bessel_i0e bessel_i1e bessel_j0 bessel_j1 spherical_bessel_j0
        erf_inv erfcx ndtri zeta""",
        Bound.POSITIONS: """grid_sampler_3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
        _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward grid_sampler_2d_backward
        upsample_bicubic2d_backward grid_sampler_3d_backward""",
        Bound.RANDOM: """bernoulli_ normal_ native_dropout rand randn rand_like randn_like randint
        randperm multinomial random randint_like rrelu_with_noise geometric cauchy log_normal
        poisson binomial _fused_dropout _standard_gamma _sample_dirichlet normal_functional
        exponential uniform normal bernoulli fractional_max_pool2d fractional_max_pool3d""",
        Bound.UNINITIALIZED: """empty empty_like new_empty empty_strided new_empty_strided
        empty_permuted resize set record_stream is_pinned _resize_output""",
        Bound.NOT_UNIQUE: """linalg_eig _linalg_eigh _linalg_svd linalg_qr geqrf ormqr svd_lowrank
        linalg_householder_product linalg_lu_factor_ex linalg_lu lu_unpack""",
    },
    "low": {
        True: """mkldnn_rnn_layer mkldnn_rnn_layer_backward _thnn_fused_lstm_cell
        _thnn_fused_gru_cell _scaled_dot_product_flash_attention_for_cpu
        _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention
        _scaled_dot_product_cudnn_attention _scaled_dot_product_flash_attention_for_cpu_backward
        _scaled_dot_product_flash_attention_backward _log_softmax _log_softmax_backward_data
        _softmax _softmax_backward_data native_batch_norm native_batch_norm_backward _embedding_bag
        _embedding_bag_forward_only batch_norm_backward upsample_bilinear2d upsample_bicubic2d
        upsample_linear1d upsample_trilinear3d grid_sampler_2d upsample_bilinear2d_backward
        upsample_bicubic2d_backward grid_sampler_3d linalg_matrix_exp pow nll_loss_forward
        nll_loss2d_forward _native_batch_norm_legit _batch_norm_with_update rsqrt
        binary_cross_entropy_with_logits soft_margin_loss logit xlogy special_entr special_i0e
        _trilinear addbmm addr linalg_cross renorm prod polygamma mvlgamma ldexp dist mse_loss
        mse_loss_backward huber_loss huber_loss_backward smooth_l1_loss smooth_l1_loss_backward
        binary_cross_entropy binary_cross_entropy_backward soft_margin_loss_backward glu_backward
        logit_backward special_xlog1py avg_pool2d_backward avg_pool3d_backward
        logsumexp scatter_reduce _adaptive_avg_pool2d_backward grid_sampler_2d_backward
        grid_sampler_3d_backward""",
    },
    "low_sums": {True: "cumsum cumprod logcumsumexp"},
    "formula": {
        products.convolution: "convolution convolution_overrideable",
        products.convolution_backward: "convolution_backward convolution_backward_overrideable",
        formulas.attention: "_scaled_dot_product_flash_attention_for_cpu",
        formulas.attention_backward: "_scaled_dot_product_flash_attention_for_cpu_backward",
        formulas.embedding_backward: "embedding_dense_backward",
        formulas.index_add: "index_add",
        formulas.index_put: "index_put _index_put_impl",
        formulas.embedding_bag: "_embedding_bag _embedding_bag_forward_only",
        formulas.embedding_bag_backward: "_embedding_bag_dense_backward",
        formulas.batch_norm: "native_batch_norm",
        formulas.ctc_loss: "_ctc_loss",
        formulas.ctc_loss_backward: "_ctc_loss_backward",
        formulas.rnn_layer: "mkldnn_rnn_layer",
        formulas.rnn_layer_backward: "mkldnn_rnn_layer_backward",
        formulas.matrix_exp: "linalg_matrix_exp",
        formulas.determinant: "_linalg_det",
        formulas.update_scale: "_amp_update_scale_",
        **products.pools(1),
        **products.pools(2),
        **products.pools(3),
    },
    "properties": {
        properties.extreme("max"): "max argmax",
        properties.extreme("min"): "min argmin",
        properties.sort: "sort topk",
        properties.pooled(1): "max_pool1d_with_indices adaptive_max_pool1d",
        properties.pooled(2): "max_pool2d_with_indices adaptive_max_pool2d",
        properties.pooled(3): "max_pool3d_with_indices adaptive_max_pool3d",
        properties.bernoulli: "bernoulli bernoulli_",
        properties.dropout: "native_dropout",
        properties.distributed(properties.uniform, "from", "to"): "uniform rand rand_like",
        properties.distributed(properties.normal, "mean", "std"): "normal normal_ randn randn_like",
        properties.distributed(properties.exponential, "lambd"): "exponential",
        properties.whole_numbers: "randint randint_like random",
        properties.distributed(properties.cauchy, "median", "sigma"): "cauchy",
        properties.distributed(properties.log_normal, "mean", "std"): "log_normal",
        properties.permutation: "randperm",
        properties.factors(properties.svd): "_linalg_svd",
        properties.factors(properties.eigh): "_linalg_eigh",
        properties.factors(properties.qr): "linalg_qr",
        properties.as_strided: "as_strided",
        properties.whole_quotient("floor"): "floor_divide",
        properties.whole_quotient(None): "div",
        properties.rounded: "round",
    },
    "private": {
        (1,): "_ctc_loss",
        (3,): "mkldnn_rnn_layer",
        (1, 2): "_linalg_det _linalg_solve_ex",
        (2, 3): "_linalg_slogdet",
    },
    "rows": {  # for pointwise operators all arguments have a row per row of the result
        (0,): "mm _softmax _log_softmax native_layer_norm convolution",
        (0, 1): "addmm bmm",
        (0, 1, 2): "baddbmm _scaled_dot_product_flash_attention_for_cpu",
        (1,): "embedding",
    },
}


def _own() -> dict[str, Reference]:
    rows: dict[str, Reference] = {}
    for field, column in TABLE.items():
        for value, names in column.items():
            for name in names.split():
                rows[name] = rows.get(name, Reference())._replace(**{field: value})
    return rows


def _added() -> dict[str, Reference]:
    """The references of other packages."""
    points = entry_points()
    group = "xorbench.references"
    own = points.select(group=group) if hasattr(points, "select") else points.get(group, ())
    return {point.name.replace(".", "::", 1): Reference(**point.load()) for point in own}


REFERENCES = _own()
ADDED = _added()


class Operator:
    """An operator as the judge reads it; `compiled.Graph` is another one.

    Attributes:
        full: its name without the namespace.
        name: the same without the underscore of the in-place form.
        row: its reference; without a row it is judged by the errors of its steps.
        size: the number of calls that it counts as.
        eager: runs it without compilation, on inputs that may be overwritten; None if it is eager.
    """

    size = 1
    eager: Callable[..., Any] | None = None

    def __init__(self, func: Any) -> None:
        self.func, self.schema, self.tags = func, func._schema, func.tags
        self.space, _, self.full = str(func._schema.name).partition("::")
        kept = self.full in REFERENCES or self.full.startswith(("__", "_foreach"))
        self.name = self.full if kept else self.full.rstrip("_")
        views = (
            a.alias_info is not None and not a.alias_info.is_write for a in self.schema.arguments
        )
        default = Reference(Bound.BITS if any(views) else Bound.STEPS)
        self.row = ADDED.get(func._schema.name) or REFERENCES.get(self.name, default)
        self.writes_alias = bool(self.schema.is_mutable) and not self.full.endswith("scale_")
        self.lists = self.full.startswith(("_foreach_", "_fused_", "_amp_foreach"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operator."""
        return self.func(*args, **kwargs)

    def __str__(self) -> str:
        return str(self.func)

    def written(self, args: Any, kwargs: Any) -> list[int]:
        """The positions of the written arguments, in the flat list of arguments."""
        names = [a.name for a in self.schema.arguments]
        values = dict(enumerate(args)) | {names.index(k): v for k, v in kwargs.items()}
        trees = [values.get(i) for i in written_by(self.func)]
        written = {id(t) for t in tree_flatten(trees)[0] if isinstance(t, Tensor)}
        flat = tree_flatten((args, kwargs))[0]
        return [i for i, value in enumerate(flat) if id(value) in written]

    def named(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments by name, with their defaults."""
        own = {a.name: a.default_value for a in self.schema.arguments if a.has_default_value()}
        given = zip((a.name for a in self.schema.arguments), args)  # noqa: B905 - Python 3.9
        return {**own, **dict(given), **kwargs}


operator = functools.lru_cache(maxsize=None)(Operator)
