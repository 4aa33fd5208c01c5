"""Each call of an operator is judged by its float64 reference."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from operator_cases import broken, element, judged, states, wrong
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from xorbench.programs.defects import DEFECTS, known
from xorbench.recorder.detail import enter, leave
from xorbench.recorder.operators import compiled as compiled_graphs
from xorbench.recorder.operators import judge, models, references
from xorbench.recorder.operators.execution import execute, wide
from xorbench.recorder.operators.interception import JudgedOperators
from xorbench.recorder.operators.noise import Noise

aten = torch.ops.aten
GRAPH = "inductor.graph"
OPTIONS = SimpleNamespace(root="", with_source=False)
DOCS = Path(__file__).parents[1] / "docs" / "defects.md"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


# Models


@pytest.mark.trains
@pytest.mark.parametrize("kind", models.MODELS)
@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_a_correct_model_causes_no_alarm(kind: str, precision: str) -> None:
    """Nearly all kinds of call are judged, and none is wrong without a known defect."""
    optimizer = next(models.optimizers())
    kinds = judged(lambda: models.train(kind, precision, "cpu", optimizer))
    kinds = [k for k in kinds if k["text"] != "uninitialized"]
    assert [k for k in kinds if k["state"] == "wrong" and not known(k)] == []
    assert sum(k["state"] == "not judged" for k in kinds) <= 0.02 * len(kinds)


def trained(kind: str, mode: Any) -> list[Tensor]:
    """The parameters after a step, their gradients, and the state of the generator."""
    torch.manual_seed(0)
    model, loss = models.MODELS[kind]({"device": "cpu", "dtype": torch.float32})
    optimizer = torch.optim.AdamW(model.parameters())
    with mode:
        loss().backward()
        optimizer.step()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [*model.parameters(), *gradients, torch.get_rng_state()]


@pytest.mark.parametrize("kind", ["gpt", "lstm", "resnet"])
def test_a_judged_step_has_the_bits_of_a_step(kind: str) -> None:
    """Judging changes no parameter, gradient or generator."""
    mode = JudgedOperators(OPTIONS, "")
    pairs = zip(trained(kind, nullcontext()), trained(kind, mode), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert mode.kinds


# Known defects of PyTorch


def scripts() -> dict[str, str]:
    return dict(re.findall(r"^## `(\S+)`$.*?```python\n(.*?)```", DOCS.read_text(), re.S | re.M))


def test_each_known_defect_has_a_script() -> None:
    """The table and the page list the same operators."""
    assert [*scripts()] == [defect.operator for defect in DEFECTS]


RELEASE = tuple(map(int, torch.__version__.split(".")[:2]))
SEEN = pytest.mark.skipif(RELEASE < (2, 13), reason="the defects were seen in PyTorch 2.13")


@SEEN
@pytest.mark.filterwarnings("ignore:TF32")  # of the switch for oneDNN
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.operator)
def test_a_known_defect_is_present_until_its_release(
    defect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script prints False; if it prints True, `fixed_in` needs the release."""
    exec(scripts()[defect.operator], {})
    fixed = defect.fixed_in and tuple(map(int, defect.fixed_in.split("."))) <= RELEASE
    assert capsys.readouterr().out.strip() == str(bool(fixed)), "update DEFECTS and the page"


@SEEN
@pytest.mark.filterwarnings("ignore:TF32")  # of the switch for oneDNN
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.operator)
def test_a_known_defect_is_detected_and_named(defect: Any) -> None:
    """The judge finds the operator of each script wrong, and the table knows its kind."""
    kinds = judged(lambda: exec(scripts()[defect.operator], {}))
    matches = [known(kind) for kind in kinds if kind["state"] == "wrong"]
    assert defect.operator in {match.operator for match in matches if match is not None}


def test_a_kind_outside_the_scope_of_a_defect_is_not_known() -> None:
    """The embedding's gradient is known to be wrong in bfloat16, not in float32."""
    kind = {"operator": "aten.embedding_dense_backward.default", "signature": "float32 [4]"}
    assert known(kind) is None
    assert known({**kind, "signature": "bfloat16 [4]"}) is not None


# Faults in kernels


def tail(result: Tensor) -> None:
    result.view(-1)[-max(1, result.numel() // 16) :] = 0


def shifted(result: Tensor) -> None:
    result.copy_(result.roll(1, 0))


def transposed(result: Tensor) -> None:
    result.copy_(result.t().contiguous())


def backward(work: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    def run() -> None:
        y = work(random(16, 16).requires_grad_())
        y.backward(torch.randn_like(y))

    return run


FORWARD: dict[str, Callable[[], object]] = {
    "gelu_backward": backward(functional.gelu),
    "embedding_dense_backward": backward(lambda x: functional.embedding(torch.arange(32) % 16, x)),
    "upsample_nearest2d": lambda: functional.interpolate(random(2, 2, 5, 5), scale_factor=2),
    "addcdiv_": lambda: random(16, 16).addcdiv_(random(16, 16), random(16, 16).exp()),
    "addmm": lambda: functional.linear(random(16, 16), random(16, 16), random(16)),
    "convolution": lambda: functional.conv2d(random(2, 3, 8, 8), random(4, 3, 3, 3), padding=1),
    "native_layer_norm": lambda: functional.layer_norm(random(16, 16), (16,)),
    "_softmax": lambda: torch.softmax(random(16, 16), -1),
    "_log_softmax": lambda: torch.log_softmax(random(16, 16), -1),
    "gelu": lambda: functional.gelu(random(16, 16)),
    "embedding": lambda: functional.embedding(torch.arange(16), random(16, 16)),
    "max_pool2d_with_indices": lambda: aten.max_pool2d_with_indices(random(2, 2, 8, 8), [2, 2]),
    "add": lambda: random(16, 16) + random(16, 16),
    "grid_sampler_2d": lambda: functional.grid_sample(
        random(2, 2, 8, 8), 2 * torch.rand(2, 8, 8, 2) - 1, align_corners=False
    ),
    "sum": lambda: random(64, 16).sum(0),
    "tanh": lambda: random(16, 16).tanh(),
    "index_select": lambda: random(16, 16).index_select(0, torch.arange(16)),
}


@pytest.mark.parametrize("change", [tail, shifted, element(1e-3)], ids=["tail", "index", "1e-3"])
@pytest.mark.parametrize("operator", FORWARD)
def test_a_fault_in_a_kernel_is_detected(operator: str, change: Any) -> None:
    """A zeroed tail, rows off by one, and one element wrong by 1e-3 in float32."""
    assert wrong(FORWARD[operator]) == set()
    assert operator in wrong(FORWARD[operator], broken(operator, change))


@pytest.mark.parametrize("operator", ["addmm", "_softmax", "add"])
def test_a_wrong_stride_is_detected(operator: str) -> None:
    """A kernel that writes its result in the other order of dimensions."""
    assert operator in wrong(FORWARD[operator], broken(operator, transposed))


def replaced(operator: str, compute: Callable[..., Any]) -> Any:
    """A kernel that computes something else from the same arguments."""

    def fault(func: Any, args: Any, result: Any) -> Any:
        return compute(*args) if func._schema.name.partition("::")[2] == operator else result

    return fault


def tf32(a: Tensor, b: Tensor) -> Tensor:
    """Products of factors with 10 bits."""
    mask = torch.tensor(~0x1FFF, dtype=torch.int32)
    return ((a.view(torch.int32) & mask).view(a.dtype)) @ (
        (b.view(torch.int32) & mask).view(b.dtype)
    )


@pytest.mark.parametrize(
    ("operator", "work", "kernel"),
    [
        ("mm", lambda: random(8, 64) @ random(64, 8), tf32),
        ("bmm", lambda: torch.bmm(random(2, 8, 64), random(2, 64, 8)), tf32),
        ("gelu", FORWARD["gelu"], lambda x: functional.gelu(x, approximate="tanh")),
        ("_softmax", FORWARD["_softmax"], lambda x, *_: torch.softmax(x, 0)),
        ("_log_softmax", FORWARD["_log_softmax"], lambda x, *_: torch.log_softmax(x, 0)),
        ("mul", lambda: torch.full((4,), 1e-30) * 1e-10, lambda x, y: torch.zeros(4)),
        ("exp", lambda: torch.full((4,), -90.0).exp(), lambda x: torch.zeros(4)),
        ("sum", lambda: torch.ones(4096).sum(), lambda x, *_: x[:2048].sum()),
        ("embedding_dense_backward", FORWARD["embedding_dense_backward"],
         lambda grad, index, *_: torch.zeros(16, 16).index_copy(0, index, grad)),
        ("gelu_backward", FORWARD["gelu_backward"],
         lambda grad, x: aten.gelu_backward(grad, x, approximate="tanh")),
    ],
)  # fmt: skip
def test_a_kernel_with_another_algorithm_is_detected(operator: str, work: Any, kernel: Any) -> None:
    """TF32, the tanh form of GELU, a wrong dimension, flushed denormals, a dropped part."""
    assert wrong(work) == set()
    assert operator in wrong(work, replaced(operator, kernel))


@pytest.mark.filterwarnings("ignore:.*verrid:UserWarning")
@pytest.mark.parametrize(
    ("operator", "work", "kernel"),
    [
        ("sum", lambda: torch.ones(64).sum(), lambda x: torch.full((), float(len(x) // 2))),
        ("exp", lambda: torch.ones(64).exp(), lambda x: torch.ones_like(x)),
        ("index_select", lambda: random(8, 4).index_select(0, torch.arange(7)),
         lambda x, dim, index: x[index + 1]),
        ("relu", lambda: torch.full((4,), torch.nan).relu(), lambda x: torch.zeros(4)),
        ("cat", lambda: torch.cat([random(3), random(3)]),
         lambda parts, dim=0: torch.zeros(6)),
        ("where.self", lambda: torch.where(random(9) > 0, random(9), 0 * random(9)),
         lambda condition, x, y: y.clone()),
        ("gather", lambda: random(8, 4).gather(1, torch.zeros(8, 1).long()),
         lambda x, dim, index, **_: x[:, 1:2].clone()),
        ("cumsum", lambda: random(8, 4).cumsum(0), lambda x, dim, **_: x.clone()),
        ("amax", lambda: random(8, 4).amax(1), lambda x, dim, *_: x[:, 0].clone()),
        ("scatter_add", lambda: torch.zeros(4).scatter_add(0, torch.zeros(5).long(), random(5)),
         lambda x, dim, index, source: x.scatter(dim, index, source)),
        ("index_put_", lambda: torch.zeros(4).index_put_((torch.arange(2),), random(2)),
         lambda x, *_, **__: x),
        ("mul_.Tensor", lambda: random(8).mul_(random(8)), lambda x, y: x.zero_()),
        ("var.correction", lambda: random(8, 4).var(0),
         lambda x, dim, **_: x.square().mean(dim) - x.mean(dim).square()),
        ("pow.Tensor_Scalar", lambda: random(8) ** 3, lambda x, y: x * x),
        ("rsqrt", lambda: torch.rsqrt(random(8).abs()), lambda x: x.clone()),
        ("erf", lambda: torch.erf(random(8)), lambda x: x.tanh()),
        ("abs", lambda: random(8).abs(), lambda x: x.clone()),
        ("sub.Tensor", lambda: random(8) - random(8), lambda x, y, **_: x.clone()),
        ("std.correction", lambda: random(8, 4).std(0), lambda x, dim, **_: x.var(dim)),
        ("scatter_reduce.two",
         lambda: torch.ones(4).scatter_reduce(0, torch.arange(4), random(4), "amax"),
         lambda x, dim, index, source, reduce, **_: source.clone()),
        ("_fft_r2c", lambda: torch.fft.rfft(random(8)),
         lambda x, *_: torch.zeros(5, dtype=torch.complex64)),
        ("constant_pad_nd", lambda: functional.pad(random(4), (1, 1), value=1.0),
         lambda x, pad, value: torch.zeros(6, dtype=x.dtype)),
        ("eq.Tensor", lambda: torch.arange(4) == torch.arange(4),
         lambda x, y: torch.zeros(4, dtype=torch.bool)),
        ("mul.Tensor", lambda: torch.tensor(2.0) * torch.tensor(3.0), lambda x, y: x.clone()),
    ],
)  # fmt: skip
def test_a_fault_in_a_kernel_of_all_types_is_detected(
    operator: str, work: Any, kernel: Any
) -> None:
    """The reference does not use the kernel itself, not even in float64."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl(operator, kernel, "CPU")
        assert operator.partition(".")[0] in wrong(work)


@pytest.mark.parametrize(
    "work",
    [
        lambda: random(8).pow_(3),
        lambda: torch.linalg.solve(random(5, 5), random(5, 2)),
        lambda: torch.linalg.det(random(6, 6)),
        lambda: torch.linalg.slogdet(random(6, 6)),
        lambda: torch.linalg.lstsq(random(6, 4), random(6, 2)),
        lambda: random(8).to(torch.float8_e4m3fn).float(),
        lambda: random(500).cauchy_(),
        lambda: random(500).log_normal_(),
        lambda: random(500).random_(0, 10),
        lambda: torch.normal(2.0, 3.0, (500,)),
        lambda: nn.functional.adaptive_avg_pool2d(random(0, 3, 5, 5), 2),
        lambda: torch.optim.Adagrad([trained_once()], fused=True).step(),
        lambda: two_views(lambda x, y: x.mul_(y)),
        lambda: torch.div(torch.arange(60.0), torch.full((60,), 0.1), rounding_mode="trunc"),
        lambda: torch.round(torch.tensor([0.355, 0.345]), decimals=2),
        lambda: torch.empty(3000, dtype=torch.bfloat16).uniform_(-0.1, 0.1),
        lambda: torch.empty(3000, dtype=torch.bfloat16).uniform_(100, 101),
        lambda: aten.native_dropout(torch.full((64,), torch.inf), 0.5, True),
        lambda: functional.gelu(random(2, 70_000)),
        lambda: torch.zeros(2).scatter_add(0, torch.arange(99_999) % 2, random(99_999).abs()),
        lambda: (random(4).as_subclass(Named) + 1).exp(),
        lambda: random(4).gather(0, torch.tensor(2)),
        lambda: random(64, 64, dtype=torch.bfloat16).logsumexp(1),
        lambda: random(64, 64, dtype=torch.bfloat16).prod(1),
        lambda: torch.zeros(8, dtype=torch.bfloat16).scatter_reduce(
            0, torch.arange(64) % 8, random(64, dtype=torch.bfloat16), "mean"
        ),
        lambda: torch.var_mean(random(8, 4), 0, correction=1.5),
        lambda: torch.tensor([2**60 + 1, 2**60]).max(),
        lambda: random(4, 200_000).abs() @ random(200_000, 4).abs(),
        lambda: functional.scaled_dot_product_attention(*[random(1, 2, 3, 4)] * 3, HIDDEN),
    ],
)
def test_an_unusual_operator_is_judged_correct(work: Any) -> None:
    """In place, factorizations, random numbers, empty batches, discontinuities, few long rows."""
    kinds = [kind for kind in judged(work) if kind["text"] != "uninitialized"]
    assert [k for k in kinds if k["state"] != "correct"] == []


class Named(Tensor):
    """A subclass without a dispatch of its own."""


HIDDEN = torch.tensor([[False] * 3, [True, False, False], [True] * 3])  # a row is fully masked


def two_views(work: Callable[[Tensor, Tensor], object]) -> None:
    x = random(6, 8)
    work(x[:, :4], x[:, :4])


def trained_once() -> Tensor:
    parameter = random(8).requires_grad_()
    parameter.square().sum().backward()
    return parameter


def test_a_sign_of_zero_is_part_of_a_move() -> None:
    """A copy that turns -0 into 0 is wrong."""
    x = torch.tensor([-0.0, 1.0])
    assert "clone" in wrong(x.clone, broken("clone", lambda result: result.abs_()))


def test_bfloat16_may_not_round_its_intermediates() -> None:
    """One element of a bfloat16 sum that is wrong by 2% is detected."""
    work = lambda: random(64, 16, dtype=torch.bfloat16).sum(0)  # noqa: E731
    assert wrong(work) == set()
    assert wrong(work, broken("sum", element(0.02))) == {"sum"}


def test_a_low_precision_sum_that_pytorch_expects_is_a_class_of_its_own() -> None:
    """`cumprod` on a GPU keeps bfloat16 (pytorch#180155)."""

    def low(x: Tensor, _dim: int) -> Tensor:
        rows, out = x.unbind(0), [x[0]]
        for row in rows[1:]:
            out.append(out[-1] * row)
        return torch.stack(out)

    x = random(256, dtype=torch.bfloat16).abs() * 0.01 + 0.99
    assert states(lambda: x.cumprod(0), replaced("cumprod", low))["cumprod"] == "low precision"
    assert states(lambda: x.cumprod(0))["cumprod"] == "correct"


# Properties


@pytest.mark.parametrize(
    ("operator", "work", "kernel"),
    [
        ("topk", lambda: random(50).topk(3), lambda x, k: torch.topk(x, k, largest=False)),
        ("topk", lambda: random(50).topk(3),
         lambda x, k: tuple(t.flip(0) for t in torch.topk(x, k))),
        ("sort", lambda: random(50).sort(), lambda x: torch.sort(x, descending=True)),
        ("argmax", lambda: random(50).argmax(), lambda x: x.argmin()),
        ("argmax", lambda: random(5, 9).argmax(1), lambda x, _: torch.full((5,), 9)),
        ("native_dropout", lambda: aten.native_dropout(random(4096), 0.1, True),
         lambda x, p, t: (x * torch.nan, torch.ones_like(x, dtype=torch.bool))),
        ("randperm", lambda: torch.randperm(50), lambda n, **_: torch.zeros(n, dtype=torch.long)),
        ("randint", lambda: torch.randint(0, 9, (500,)), lambda *_: torch.full((500,), 9)),
        ("randn", lambda: torch.randn(4000), lambda *_: torch.rand(4000)),
        ("native_dropout", lambda: aten.native_dropout(random(4096), 0.1, True),
         lambda x, p, t: aten.native_dropout(x, 0.2, True)),
        ("_linalg_svd", lambda: torch.linalg.svd(random(5, 4)),
         lambda x, *_: tuple(2 * t for t in torch.linalg.svd(x))),
        ("linalg_qr", lambda: torch.linalg.qr(random(5, 4)),
         lambda x, *_: tuple(2 * t for t in torch.linalg.qr(x))),
        ("floor_divide", lambda: torch.floor_divide(random(50), 0.3),
         lambda x, y: torch.ceil(x / y)),
        ("div", lambda: torch.div(random(50), 0.3, rounding_mode="trunc"), torch.floor_divide),
        ("_linalg_svd", lambda: torch.linalg.svd(random(5, 4)),
         lambda x, *_: tuple(torch.nan * t for t in torch.linalg.svd(x))),
        ("linalg_qr", lambda: torch.linalg.qr(random(5, 5)),
         lambda x, *_: (torch.eye(5), x.clone())),
        ("_linalg_eigh", lambda: torch.linalg.eigh(random(5, 9).cov()),
         lambda x, *_: tuple(t.flip(-1) for t in torch.linalg.eigh(x))),
        ("bernoulli_", lambda: torch.zeros(500).bernoulli_(),
         lambda x: x.copy_(torch.arange(500) < 250)),
        ("sort", lambda: torch.zeros(9).sort(stable=True),
         lambda x, **_: (x, torch.arange(9).flip(0))),
    ],
)  # fmt: skip
def test_a_result_without_one_correct_value_has_properties(
    operator: str, work: Any, kernel: Any
) -> None:
    """Indices, random numbers, factors of matrices, and discontinuous operators."""
    assert states(work)[operator] == "correct"
    assert operator in wrong(work, replaced(operator, kernel))


def test_both_branches_of_a_discontinuous_operator_are_correct() -> None:
    """The quotient of two bfloat16 numbers may round to a whole number."""
    a, b = torch.tensor([2.9921875]).bfloat16(), torch.tensor([1.0]).bfloat16()
    assert states(lambda: torch.floor_divide(a, b))["floor_divide"] == "correct"


# Traps


def test_a_composite_operator_is_judged_as_a_whole() -> None:
    """Without autograd, composites reach a dispatch handler whole."""
    with torch.inference_mode():
        assert "wrong" not in states(lambda: functional.linear(random(4, 4), random(4, 4))).values()


def test_a_lazy_conjugate_and_negative_are_resolved() -> None:
    """Their bits in memory are not their values."""
    x = random(4, dtype=torch.complex64)
    assert set(states(lambda: (x.conj() * 2, x.conj().imag * 2)).values()) == {"correct"}


def test_a_tensor_of_zeros_without_storage_is_not_read() -> None:
    """Reading it would end the process."""
    zero = torch._efficientzerotensor((3,))
    assert states(lambda: zero * torch.ones(3))["mul"] == "not judged"


def test_batch_norm_writes_its_running_statistics() -> None:
    """The schema of native_batch_norm does not declare them; a wrong update is detected."""

    def work() -> None:
        norm = nn.BatchNorm1d(4)
        norm(random(8, 4))

    def fault(func: Any, args: Any, result: Any) -> Any:
        if func is aten.native_batch_norm.default:
            args[3].add_(1.0)
        return result

    assert wrong(work) == set()
    assert wrong(work, fault) == {"native_batch_norm"}


def test_a_number_that_is_nan_is_wrong() -> None:
    """`item` returns a Python number."""
    work = torch.tensor(2.0).item
    assert wrong(work, replaced("_local_scalar_dense", lambda _: torch.nan)) == {
        "_local_scalar_dense"
    }


@pytest.mark.filterwarnings("ignore:.*nested")
def test_a_nested_tensor_is_named() -> None:
    """It has no shape and no strides."""
    nested = torch.nested.nested_tensor([random(2), random(3)])
    assert states(lambda: nested * 2)["mul"] == "not judged"


def test_a_mode_of_the_program_ends_where_the_program_ends_it() -> None:
    """A mode that is entered within it is below it, since its exit removes the innermost mode."""
    mode, own = JudgedOperators(OPTIONS, ""), TorchDispatchMode()
    with own:
        enter(mode)
    stack = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    leave(mode)
    assert stack == [mode]
    assert torch._C._len_torch_dispatch_stack() == 0


def test_as_strided_reads_the_storage() -> None:
    """Its elements are those of the storage, not of its input."""
    x = torch.arange(12.0)[3:6]
    work = lambda: x.as_strided((2, 3), (3, 1), 1)  # noqa: E731
    assert states(work) == {"as_strided": "correct"}
    assert wrong(work, replaced("as_strided", lambda *_: torch.arange(6.0).reshape(2, 3)))


def test_numpy_keeps_a_tensor_without_dimensions() -> None:
    """`np.ascontiguousarray` would give it one."""
    (args, kwargs), noise = wide(((torch.tensor(2.0),), {})), Noise()
    assert execute(references.operator(aten.exp.default), args, kwargs, noise)[0].shape == ()


def test_a_value_of_a_list_operator_is_a_keyword() -> None:
    """`_foreach_addcmul` passes its scalar by position, `addcmul` takes a keyword."""
    lists = [[random(4), random(3)] for _ in range(3)]
    assert states(lambda: torch._foreach_addcmul_(*lists, 0.5)) == {"_foreach_addcmul_": "correct"}


def test_the_bound_of_a_convolution_counts_all_its_terms() -> None:
    """A sum over many channels and kernel positions has a larger rounding error."""
    x, weight = random(1, 512, 9, 9).abs(), random(2, 512, 7, 7).abs()
    assert wrong(lambda: functional.conv2d(x, weight)) == set()


def test_erf_has_the_accuracy_of_its_approximation() -> None:
    """A float32 erf is accurate to 1.5e-7 absolutely."""
    assert wrong(lambda: torch.erf(torch.linspace(-1e-3, 1e-3, 999))) == set()


def test_the_gradient_of_attention_uses_the_saved_logsumexp() -> None:
    """The rounding of a large logsumexp is an input of the backward pass, not an error of it."""

    def work() -> None:
        q, k, v = (20 * random(1, 2, 16, 8) for _ in range(3))
        functional.scaled_dot_product_attention(q.requires_grad_(), k, v).sum().backward()

    assert wrong(work) == set()


def test_the_original_output_is_judged() -> None:
    """A race that only the first execution shows is detected."""
    executions = []

    def fault(func: Any, _args: Any, result: Any) -> Any:
        executions.append(func)
        return result + 1 if func is aten.exp.default else result

    assert wrong(lambda: random(4).exp(), fault) == {"exp"}
    assert executions.count(aten.exp.default) == 1


def test_the_scaled_term_of_an_addition_may_be_rounded() -> None:
    """`add(a, b, alpha)` has two roundings, which show where the terms cancel."""
    a, b = random(512), random(512)
    a = -0.1 * b * (1 + 1e-4 * a)
    twice = replaced("add", lambda a, b: a + 0.1 * b)
    assert wrong(lambda: torch.add(a, b, alpha=0.1), twice) == set()


def test_an_in_place_bernoulli_has_its_own_default() -> None:
    """Its tensor holds no chances."""
    assert states(lambda: torch.zeros(100).bernoulli_())["bernoulli_"] == "correct"


def test_a_python_number_may_be_rounded_to_the_type_or_not() -> None:
    """Both 0.1 in bfloat16 and 0.1 in float64 are correct factors."""
    x = random(64, dtype=torch.bfloat16)
    assert wrong(lambda: x * 0.1) == set()
    rounded = replaced("mul", lambda x, _y: x * torch.tensor(0.1, dtype=torch.bfloat16))
    assert wrong(lambda: x * 0.1, rounded) == set()


def test_a_reference_in_float64_is_rounded_too() -> None:
    """Where terms cancel, the rounding of both decides the result."""
    x = random(500, dtype=torch.float64)
    y = x / -0.3 * (1 + 2**-40 * random(500, dtype=torch.float64))
    assert wrong(lambda: torch._foreach_add([x], [y], alpha=0.3)) == set()


def test_an_operator_with_different_bits_in_further_executions_is_named() -> None:
    """Each correct kind is executed twice more."""
    changing = iter(range(1, 10))

    class Changing(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            return result * (1 + 6e-8 * next(changing)) if func is aten.exp.default else result

    with Changing():
        kinds = judged(lambda: torch.ones(4).exp())
    assert [kind["identical"] for kind in kinds if "exp" in kind["operator"]] == [False]


def test_further_executions_have_the_strides_of_the_first() -> None:
    """A kernel for strided memory may round in another way than one for contiguous memory."""
    gates = random(4, 48)
    (kind,) = (k for k in judged(lambda: gates[:, :16].sigmoid_()) if "sigmoid" in k["operator"])
    assert (kind["state"], kind["identical"]) == ("correct", True)


# Compiled code


def compiled(fault: Any = None) -> dict[str, str]:
    """The states of the kinds of a compiled step."""
    follow, mode = compiled_graphs.follow_compilation, JudgedOperators(OPTIONS, "", fault)
    from torch._functorch import config
    from torch._inductor import compile_fx, output_code

    hooks = (compile_fx, "_compile_fx_inner"), (output_code.CompiledFxGraph, "__call__")
    with pytest.MonkeyPatch.context() as patch, config.patch(enable_autograd_cache=False):
        for place, name in hooks:
            patch.setattr(place, name, getattr(place, name))
        follow(mode.run_graph)
        torch._dynamo.reset()
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
        model = torch.compile(nn.Sequential(*layers))
        with mode:
            model(random(4, 1, 8, 8)).square().mean().backward()
    return {str(k["signature"]): k["state"] for k in mode.kinds.values() if k["operator"] == GRAPH}


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_graph_is_judged_by_the_graph_in_float64() -> None:
    """The forward and the backward graph are correct; one wrong element is detected."""

    def fault(func: Any, _args: Any, result: Any) -> Any:
        if str(func) == GRAPH:
            with torch.no_grad():
                element(1e-2)(next(t for t in result if isinstance(t, Tensor)))
        return result

    assert [*compiled().values()] == ["correct", "correct"]
    assert "wrong" in compiled(fault).values()


# Cost


def test_rows_of_a_large_result_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product above the cap is judged on some of its rows; a reduction is named."""
    monkeypatch.setattr(judge, "MOST_ELEMENTS", 1000)
    x, weight = random(500, 8), random(8, 4)
    assert states(lambda: x @ weight)["mm"] == "correct"
    assert wrong(lambda: x @ weight, broken("mm", shifted)) == {"mm"}
    (kind,) = judged(lambda: x.sum())
    assert (kind["state"], kind["text"]) == ("not judged", "more than 1,000 elements")


def test_rows_of_a_sample_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias as long as the batch has no rows; a softmax across the rows is named."""
    monkeypatch.setattr(judge, "MOST_ELEMENTS", 1000)
    x, bias = random(50, 50), random(50)
    assert states(lambda: x + bias)["add"] == "correct"
    assert states(lambda: torch.addmm(bias, x, x))["addmm"] == "correct"
    assert states(lambda: x.softmax(0))["_softmax"] == "not judged"


def test_one_wrong_element_of_many_is_detected() -> None:
    """Also among results of a small size whose relative errors are larger."""

    def fault(func: Any, _args: Any, result: Any) -> Any:
        if func is aten.gelu.default:
            result[1, 70_000] *= 1.003
        return result

    x = -random(2, 100_000).abs() - 2
    x[1, 70_000] = 1.0
    assert wrong(lambda: functional.gelu(x)) == set()
    texts = [k["text"] for k in judged(lambda: functional.gelu(x), fault) if k["state"] == "wrong"]
    assert [text.partition(" is ")[0] for text in texts] == ["element [1, 70000]"]


def test_a_kind_is_judged_once() -> None:
    """Further calls of the same kind only count."""
    mode = JudgedOperators(OPTIONS, "")
    with mode:
        for _ in range(3):
            torch.exp(torch.ones(4))
    assert [mode._calls[key] for key, k in mode.kinds.items() if "exp" in k["operator"]] == [3]


def test_a_kind_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is not computed for longer than the cap."""
    monkeypatch.setattr(judge, "LONGEST_S", -1.0)
    kinds = judged(lambda: random(64, 64) @ random(64, 64))
    assert "takes longer" in next(k["text"] for k in kinds if "mm" in k["operator"])


# The registry


def test_an_entry_point_names_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the name of the operator, with a dot, and names a mapping."""
    folder = tmp_path / "my_ops-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-ops\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[xorbench.references]\nmy_ops.double = my_rows:DOUBLE\n"
    )
    (tmp_path / "my_rows.py").write_text("DOUBLE = {'bound': 'rounded', 'formula': abs}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = references.Reference("rounded", abs)
    assert references._added() == {"my_ops::double": row}


def test_another_package_adds_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row judges an operator of another namespace."""
    with torch.library._scoped_library("operator_test", "DEF") as library:
        library.define("double(Tensor x) -> Tensor")
        library.impl("double", lambda x: x * 2, "CompositeExplicitAutograd")
        row = references.Reference(references.Bound.ROUNDED, lambda x: x + x)
        monkeypatch.setitem(references.ADDED, "operator_test::double", row)
        work = lambda: torch.ops.operator_test.double(random(4))  # noqa: E731
        assert states(work)["double"] == "correct"
        assert wrong(work, broken("double", element(1e-3))) == {"double"}
