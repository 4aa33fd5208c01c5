"""Rounding or more: sketches, noise, decisions, and the judgement from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import convert
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _python_dispatch as python_dispatch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from xorbench.programs import rounding
from xorbench.programs.rounding import Comparison, Sketch, Step, judge
from xorbench.programs.rounding_report import row_text
from xorbench.recorder import decisions, noise
from xorbench.recorder import sketch as sketches
from xorbench.recorder.detail import Operators, UnseenMode, enter, leave
from xorbench.recorder.fingerprint import Digester
from xorbench.recorder.listen import Listener
from xorbench.recorder.noise import Noise, rule_of
from xorbench.recorder.operators.interception import JudgedOperators
from xorbench.recorder.options import Options
from xorbench.recorder.rounding import StepMode
from xorbench.recorder.sink import MemorySink
from xorbench.recorder.sketch import sample, sample_at, sketch, sketch_at
from xorbench.records.trace import More, TraceEvent

ATEN = torch.ops.aten
EPS = 2.0**-23

# Sketches


def normals(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_the_norm_of_a_difference_follows_from_two_sketches(seed: int) -> None:
    """Within 15%, more than three standard deviations, also for elements of one sign."""
    a = normals(40_000, seed=seed)
    b = a + 1e-6 * (1 + normals(40_000, seed=seed + 9))
    norm = float((sketch(b) - sketch(a)).norm())
    assert norm == pytest.approx(float((b.double() - a.double()).norm()), rel=0.15)


def test_up_to_251_elements_are_kept_exactly() -> None:
    """Each has a sum of its own, up to the sign."""
    a = normals(250)
    assert torch.equal(sketch(a).abs()[:250], a.double().abs())


def test_sketches_of_shards_and_of_partial_sums_add_up() -> None:
    """The sign of an element depends on its index in the whole tensor only."""
    a = normals(50_000).round(decimals=3).double()
    whole = sketch(a)
    indices = torch.arange(50_000)
    parts = [sketch_at(a[part], indices[part]) for part in (slice(777), slice(777, None))]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(sketch(a / 4) + sketch(a * 3 / 4), whole)
    columns = torch.arange(50_000).view(500, 100)
    shards = [sketch_at(a.view(500, 100)[:, part], columns[:, part]) for part in
              (slice(0, 33), slice(33, 100))]  # fmt: skip
    torch.testing.assert_close(sum(shards), whole)


@pytest.mark.parametrize("count", [100, 100_000, 300_007])
def test_samples_of_shards_add_up_to_the_sample_of_the_whole(count: int) -> None:
    """A sample has at least 65,536 elements, and less than three times as many."""
    a = normals(count).round(decimals=3).double()
    whole, indices = sample(a), torch.arange(count)
    assert min(count, 65_536) <= len(whole) < 3 * 65_536
    shards = [sample_at(a[part], indices[part], count) for part in (slice(77), slice(77, None))]
    assert sum(len(own) for own, _ in shards) == len(whole)
    torch.testing.assert_close(sum(sketch_at(*own) for own in shards), sketch(whole))


def test_a_sample_has_every_column_of_rows_with_a_power_of_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the number of runs in a row is one."""
    monkeypatch.setattr(sketches, "LEAST_SAMPLED", 1_024)
    columns = torch.arange(256).expand(16_384, -1)
    assert len(sample(columns).unique()) == 256


def test_a_sketch_has_the_logical_order() -> None:
    """Strides, such as those of channels_last, do not matter."""
    a = normals(2, 3, 40, 50)
    assert torch.equal(sketch(a), sketch(a.to(memory_format=torch.channels_last)))


def test_an_equal_tensor_is_sketched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest identifies it; such as the output of a module that returns its input."""
    calls = list[Tensor]()
    monkeypatch.setattr(sketches, "sketch", lambda tensor: calls.append(tensor) or sketch(tensor))
    all_details, digester = sketches.Sketches(), Digester()
    for a in (normals(300), normals(300), normals(300, seed=1), normals(3, 100)):
        all_details.details_of(a, digester.start(a))
    assert len(calls) == 3


# Noise


@pytest.mark.parametrize(
    ("operator", "rule"),
    [
        (ATEN.view.default, "exact"),
        (ATEN.relu_.default, "exact"),
        (ATEN._foreach_zero_.default, "exact"),
        (ATEN.bernoulli_.float, "exact"),
        (ATEN.max_pool2d_with_indices_backward.default, "exact"),
        (ATEN.threshold_backward.default, "exact"),
        (ATEN.mm.default, "sums"),
        (ATEN._log_softmax_backward_data.default, "sums"),
        (ATEN.native_batch_norm.default, "sums"),
        (ATEN.embedding_dense_backward.default, "sums"),
        (ATEN._scaled_dot_product_flash_attention_for_cpu.default, "sums"),
        (ATEN.linalg_vector_norm.default, "sums"),
        (ATEN.gelu.default, "rounds"),
        (ATEN._foreach_addcdiv_.Scalar, "rounds"),
        (ATEN._fused_adamw_.default, "rounds"),
        (ATEN.leaky_relu_backward.default, "rounds"),
        (ATEN._embedding_bag_dense_backward.default, "sums"),
        (ATEN._unique2.default, "exact"),
        (ATEN._to_copy.default, "converts"),
        (torch.ops.c10d.allreduce_.default, "reduces"),
        (torch.ops.c10d.broadcast_.default, "exact"),
        (torch.ops.quantized.add.default, "unknown"),
    ],
)
def test_the_rule_of_an_operator(operator: Any, rule: str) -> None:
    """It follows from the tables, else from the tags of PyTorch."""
    assert rule_of(operator) == rule


UNARY = "abs neg relu sign floor ceil trunc round clone positive sgn isfinite flip:0 cummax:0 sort"
UNARY += " hardtanh amax amin triu tril roll:1 unsqueeze_copy:0 t_copy cat stack argmax topk:2"


@pytest.mark.parametrize("text", UNARY.split())
def test_an_exact_operator_gives_the_same_values_in_double_precision(text: str) -> None:
    """So it does not round."""
    name, _, argument = text.partition(":")
    a, arguments = normals(6, 6), [int(argument)] if argument else []
    arguments = [arguments] if name in ("flip", "roll") else arguments  # type: ignore[list-item]
    operator = getattr(ATEN, name)
    assert rule_of(getattr(operator, operator.overloads()[0])) == "exact"
    results = []
    for tensor in (a, a.double()):
        first = [tensor, tensor] if name in ("cat", "stack") else tensor
        result = operator(first, *arguments)
        results.append(result[0] if isinstance(result, tuple) else result)
    assert torch.equal(results[0].double(), results[1].double())


def relative_noise(work: Callable[[Noise], Tensor], exact: Tensor, runs: int = 8) -> float:
    """The root mean square of the noise of a result, in eps of the result."""
    gaps = [(work(Noise(seed)).double() - exact.double()) for seed in range(runs)]
    square = torch.stack(gaps).square().sum(tuple(range(1, exact.dim() + 1))).mean()
    return float(square.sqrt() / exact.double().norm() / torch.finfo(exact.dtype).eps)


def test_a_rounded_result_has_noise_of_its_precision() -> None:
    """±eps with probability 1/12 each is 0.41 eps."""
    a = normals(5_000)
    result = relative_noise(lambda n: n.run(ATEN.exp.default, (a,), {}), a.exp())
    assert 0.3 < result < 0.6


def test_a_sum_whose_terms_cancel_has_the_noise_of_its_terms() -> None:
    """A result near zero would else have no noise."""
    a = torch.cat([torch.ones(50), -torch.ones(50)])
    gaps = [Noise(seed).run(ATEN.sum.default, (a,), {}).item() for seed in range(8)]
    assert np.std(gaps) > EPS


def test_the_noise_grows_with_the_length_of_a_sum() -> None:
    """A kernel may add all terms to one number."""
    long, short = torch.rand(1 << 18) + 1, torch.rand(16) + 1
    of_long, of_short = (
        relative_noise(lambda n, a=a: n.run(ATEN.sum.default, (a,), {}), a.sum(), 40)
        for a in (long, short)
    )
    assert of_long > 8 * of_short


@pytest.mark.parametrize("form", ["embedding", "index"])
def test_a_frequent_token_is_a_long_sum(form: str) -> None:
    """As padding is: its row of the gradient dominates, and a kernel may add it term by term."""
    rows, tokens = normals(4096, 4) + 1, torch.zeros(4096, dtype=torch.int64)
    if form == "index":
        func, args = ATEN.index_put.default, (torch.zeros(5000, 4), [tokens], rows, True)
    else:
        func, args = ATEN.embedding_dense_backward.default, (rows, tokens, 5000, -1, False)
    assert relative_noise(lambda n: n.run(func, args, {}), func(*args)) > 3


def test_complex_numbers_have_noise() -> None:
    """In the Fourier transform of real numbers and in its gradient."""
    to, back = ATEN._fft_r2c.default, ATEN._fft_c2r.default
    words = normals(8, 64), [1], 0, True
    spectrum = to(*words)
    inverse = spectrum, [1], 0, 64
    pairs = torch.view_as_real(spectrum)
    assert relative_noise(lambda n: torch.view_as_real(n.run(to, words, {})), pairs) > 0.2
    assert relative_noise(lambda n: n.run(back, inverse, {}), back(*inverse)) > 0.2


def test_an_index_that_repeats_in_a_bag_adds_equal_terms() -> None:
    """So the noise of its row of the gradient grows with their number."""
    bags, work = torch.arange(4).repeat_interleave(500), ATEN._embedding_bag_dense_backward.default
    sizes, rows = torch.full((4,), 500), normals(4, 16)
    noises = []
    for indices in (torch.zeros(2_000, dtype=torch.int64), torch.arange(2_000)):
        words = rows, indices, bags, sizes, sizes, 2_000, False, 0, None, -1
        noises.append(relative_noise(lambda n, w=words: n.run(work, w, {}), work(*words)))
    assert noises[0] > 50 * noises[1]


def test_equal_terms_in_a_row_round_one_way() -> None:
    """Their sum has more noise than the same terms in random order; a mean has such a gradient."""
    terms = normals(16, 8, 1, 1).expand(16, 8, 8, 8).contiguous()
    mixed = terms.transpose(0, 1).flatten(1)[:, torch.randperm(1024)].view(8, 16, 8, 8)

    def of(terms: Tensor) -> float:
        words = terms, [0, 2, 3]
        work = ATEN.sum.dim_IntList
        return relative_noise(lambda n: n.run(work, words, {}), work(*words))

    assert of(terms) > 4 * of(mixed.transpose(0, 1))


def test_the_noise_of_a_gradient_of_batch_norm_is_shared_by_a_channel() -> None:
    """An error of the mean that is subtracted is the same in every element."""
    x, gradient = normals(32, 4, 8, 8), normals(32, 4, 8, 8, seed=1)
    saved = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0).add(1e-5).rsqrt()
    words = (gradient, x, torch.ones(4), None, None, *saved, True, 1e-5, [True, True, True])
    backward = ATEN.native_batch_norm_backward.default
    plain = backward(*words)[0]
    gaps = torch.stack([Noise(seed).run(backward, words, {})[0] - plain for seed in range(8)])
    of_sums = gaps.sum((1, 3, 4)).square().mean()
    assert of_sums > 9 * gaps.square().sum((1, 3, 4)).mean()


def test_inputs_are_unchanged() -> None:
    """The terms with noise are copies."""
    a, b = normals(30, 30), normals(30, 30, seed=1)
    kept = a.clone()
    Noise(1).run(ATEN.mm.default, (a, b), {})
    assert torch.equal(a, kept)


def test_running_statistics_are_updated_and_have_noise() -> None:
    """The schema of batch norm does not name them as written."""
    a, results = normals(64, 8), []
    for seed in (None, 1):
        mean, var = torch.zeros(8), torch.ones(8)
        arguments = (a, None, None, mean, var, True, 0.1, 1e-5)
        run = ATEN.native_batch_norm.default
        run(*arguments) if seed is None else Noise(seed).run(run, arguments, {})
        results.append(mean)
    assert results[0].norm() > 0.01
    assert not torch.equal(results[0], results[1])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


def test_a_conversion_has_noise_only_if_it_rounds() -> None:
    """From float32 to bfloat16, not back."""
    a = normals(2_000)
    run = ATEN._to_copy.default
    low = Noise(1).run(run, (a,), {"dtype": torch.bfloat16})
    assert not torch.equal(low, a.bfloat16())
    assert torch.equal(Noise(1).run(run, (low,), {"dtype": torch.float32}), low.float())


def test_a_counter_and_a_product_of_half_precision_keep_their_terms() -> None:
    """A step is an exact number, and products of bfloat16 are summed in float32."""
    step = torch.tensor(3.0)
    for seed in range(20):
        Noise(seed).run(ATEN.add_.Tensor, (step, torch.tensor(1.0)), {})
    assert step == 23
    a = torch.ones(4, 256, dtype=torch.bfloat16)
    result = relative_noise(lambda n: n.run(ATEN.mm.default, (a, a.t()), {}), a @ a.t(), 40)
    assert result < 0.8


def test_an_unknown_operator_is_named() -> None:
    """It runs without noise."""
    with torch.library._scoped_library("xorbench_test", "DEF") as library:
        library.define("twice(Tensor a) -> Tensor")
        library.impl("twice", lambda a: a * 2, "CPU")
        generator = Noise(1)
        generator.run(torch.ops.xorbench_test.twice.default, (torch.ones(9),), {})
    assert list(generator.unknown) == ["xorbench_test.twice.default"]


# Decisions


def observed(func: Any, *args: Any) -> dict[str, Tensor]:
    """What is recorded of an operator, by kind."""
    before = decisions.decision_before(func, args)
    out = func(*args)
    return dict(decisions.observed(func, args, out, before))


def test_decisions_of_functional_and_in_place_forms() -> None:
    """A ReLU decides by sign, also if it overwrites its input; a max-pool by index."""
    a = normals(1, 1, 8, 8)
    plain, in_place = observed(ATEN.relu.default, a), observed(ATEN.relu_.default, a.clone())
    assert torch.equal(plain["decision"], in_place["decision"])
    assert torch.equal(plain["decision"], (a > 0).float())
    signs = [observed(f, a.clone())["decision"] for f in (ATEN.abs.default, ATEN.abs_.default)]
    assert torch.equal(*signs)
    b = a.clone()
    b[0, 0, 0, :2] += torch.tensor([9.0, 0.0])
    pools = [observed(ATEN.max_pool2d_with_indices.default, x, [2, 2])["decision"] for x in (a, b)]
    assert (pools[0] != pools[1]).sum() <= 1


def test_labels_draws_and_comparisons_of_integers() -> None:
    """Labels and draws are recorded; a mask of integers is no decision."""
    scores, labels = normals(4, 3).log_softmax(1), torch.tensor([0, 1, 2, 0])
    loss = observed(ATEN.nll_loss_forward.default, scores, labels, None, 1, -100)
    assert torch.equal(loss["label"], labels)
    assert set(observed(ATEN.native_dropout.default, scores, 0.5, True)) == {"draw"}
    assert observed(ATEN.ne.Scalar, labels, 1) == {}


# Records


def recorded(train: Callable[[], None], **options: Any) -> list[Any]:
    """The lines of a training of two steps under a listener of its own."""
    from xorbench.recorder import install

    sink = MemorySink()
    listener = Listener(Options(sketches=True, **options), lambda: sink)
    hooks = [*install._listen_to_optimizers(listener), *install._listen_to_modules(listener)]
    plain = torch.autograd.backward, torch.autograd.grad
    loading = torch.utils.data.dataloader._BaseDataLoaderIter
    plain_next = loading.__next__
    listener.rounding.quiet_while_loading()
    install._listen_to_backward(listener)
    try:
        train()
        listener.shielded(listener.finish)
    finally:
        listener.rounding.pop()
        torch.autograd.backward, torch.autograd.grad = plain
        loading.__next__ = plain_next  # type: ignore[method-assign]
        for hook in hooks:
            hook.remove()
    return sink.lines


class Rounded(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Samples that are computed when they are loaded."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return normals(8, seed=index).exp(), index % 3


def small_training() -> None:
    """Two steps; data are loaded between and within them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    batches = iter(torch.utils.data.DataLoader(Rounded(), batch_size=4))
    for _ in range(2):
        optimizer.zero_grad()
        for _ in range(2):
            x, y = next(batches)
            functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def events(lines: list[Any], kind: str) -> list[Any]:
    """The events of a kind, in all steps."""
    return [e for line in lines for e in line.get("events", ()) if e[0] == kind]


def test_a_record_has_sketches_of_every_tensor_and_of_decisions() -> None:
    """Gradients also after each pass of the first step, which may end without an optimizer."""
    lines = recorded(small_training)
    counts = {"output": 16, "gradient": 16, "new state": 24, "decision": 4, "label": 4}
    for kind, count in counts.items():
        assert len(events(lines, kind)) == count, kind
    assert all("sketch" in e[3] for kind in ("output", "gradient") for e in events(lines, kind))


def test_noise_changes_results_and_never_the_batches() -> None:
    """Also those that are loaded within a step."""
    plain, noisy = recorded(small_training), recorded(small_training, noise=1)
    for kind, same in (("batch", True), ("label", True), ("output", False), ("gradient", False)):
        digests = [[e[2] for e in events(lines, kind)] for lines in (plain, noisy)]
        assert (digests[0] == digests[1]) is same, kind
    assert len(torch.utils._python_dispatch._get_current_dispatch_mode_stack()) == 0


def test_a_sparse_gradient_has_the_sketch_of_the_dense_one() -> None:
    """An embedding may have either."""
    dense = torch.zeros(40, 8).index_add(0, torch.tensor([3, 9, 3]), normals(3, 8))
    assert torch.equal(sketch(dense.to_sparse()), sketch(dense))


def scaled_training(fused: bool) -> None:
    """Two steps with a gradient scaler, which leaves the division to a fused optimizer."""
    torch.manual_seed(0)
    net, scaler = nn.Linear(8, 3), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.AdamW(net.parameters(), fused=fused)
    for seed in range(2):
        optimizer.zero_grad()
        scaler.scale(net(normals(4, 8, seed=seed)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()


def test_gradients_are_recorded_without_the_factor_of_a_scaler() -> None:
    """Else a fused optimizer would have other gradients."""
    runs = [recorded(lambda fused=fused: scaled_training(fused)) for fused in (False, True)]
    plain, fused = ([e[2] for e in events(lines[:1], "gradient")][-2:] for lines in runs)
    assert plain == fused


@pytest.mark.parametrize("forgets", [False, True])
def test_an_optimizer_state_that_changes_between_steps_has_a_note(
    tmp_path: Path, forgets: bool
) -> None:
    """Also if the change is in place."""

    def train() -> None:
        net = nn.Linear(8, 3)
        optimizer = torch.optim.Adam(net.parameters())
        for seed in range(3):
            if forgets and seed == 2:
                optimizer.state[net.weight]["exp_avg"].zero_()
            optimizer.zero_grad()
            net(normals(4, 8, seed=seed)).square().mean().backward()
            optimizer.step()

    notes = events(recorded(train, keep_states=str(tmp_path)), "note")
    assert [note[1] for note in notes] == ["changed"] * forgets


# The judgement


def record(seed: int = 0, size: float = 0.0, **changed: float) -> list[Step]:
    """Ten steps of two tensors with relative noise; `changed` scales a tensor from step 3 on."""
    random, steps = np.random.default_rng(seed), []
    for number in range(10):
        step = Step()
        for kind, name in (("output", "net"), ("gradient", "w"), ("parameter", "w")):
            sums = np.random.default_rng(number).normal(size=251)
            sums = sums * (1 + size * random.normal(size=251))
            scale = changed.get(kind, 1.0) if number >= 3 else 1.0
            step.sketches[kind, name] = Sketch(sums * scale, 5_000, "float32")
        steps.append(step)
    return steps


NOISY = [record(seed, 1e-6) for seed in (1, 2, 3, 4)]


def compared(b: list[Step]) -> rounding.RoundingAnswer:
    """The answer for B against a record without noise."""
    a = record()
    return judge(Comparison(a, a, b, NOISY))


def test_a_difference_of_the_size_of_the_noise_is_rounding() -> None:
    """Every step is judged."""
    answer = compared(record(9, 2e-6))
    assert (answer.word, answer.judged) == ("same", list(range(10)))
    assert answer.worst is not None
    assert 1 < answer.worst.times < 5


def test_a_larger_difference_is_beyond_rounding_where_it_begins() -> None:
    """In step and tensor."""
    answer = compared(record(9, 1e-6, gradient=1.001))
    assert answer.word == "beyond"
    assert answer.first is not None
    assert (answer.first.step, answer.first.kind) == (3, "gradient")


@pytest.mark.parametrize(("elements", "word"), [(3, "same"), (4, "beyond")])
def test_three_elements_of_a_parameter_may_differ_by_a_whole_step(elements: int, word: str) -> None:
    """Adam moves an element whose gradient is nearly 0 by the sign of the rounding."""
    b = record(9, 1e-6)
    b[3].sketches["parameter", "w"].sums[7 : 7 + elements] += 0.1
    assert compared(b).word == word


def test_one_element_of_a_gradient_beyond_rounding_is_enough() -> None:
    """Only the elements of a parameter have a step of Adam."""
    b = record(9, 1e-6)
    b[3].sketches["gradient", "w"].sums[7] += 0.1
    assert compared(b).word == "beyond"


def test_a_wrong_scale_shows_in_one_direction_below_the_limit_of_the_norm() -> None:
    """The component along the tensor is far more sensitive."""
    answer = compared(record(9, 1e-6, gradient=1 + 8e-6))
    assert answer.first is not None
    assert answer.first.ratio < rounding.LIMIT < rounding.SCALE_LIMIT < answer.first.along


def test_a_direction_without_noise_in_four_runs_by_chance_has_that_of_the_steps_before() -> None:
    """Four runs are few: their component along a tensor may be small in one step."""
    a, noisy, b = record(), [record(seed, 1e-5) for seed in (1, 2, 3, 4)], record(9, 1e-5)
    key = "gradient", "w"
    own = a[5].sketches[key].sums
    for run in noisy:
        sums = run[5].sketches[key].sums
        run[5].sketches[key].sums[:] = sums - (sums - own) @ own / (own @ own) * own
    b[5].sketches[key].sums[:] = own * (1 + 8e-6)
    answer = judge(Comparison(a, a, b, noisy))
    assert answer.word == "same"


def with_decision(steps: list[Step], flips: dict[int, int]) -> list[Step]:
    """The steps with a decision before their tensors, in which some elements are different."""
    for number, step in enumerate(steps):
        sums = np.zeros(251)
        sums[: flips.get(number, 0)] = 1
        decision = Sketch(sums, 5_000, "float32", str(flips.get(number, 0)))
        step.sketches = {("decision", "relu#0"): decision, **step.sketches}
    return steps


@pytest.mark.parametrize(
    ("flips", "reset", "word", "judged"),
    [
        ({5: 1}, False, "same", 5),  # the steps after a fork are not judged
        ({2: 1}, False, "cannot tell", 2),
        ({2: 1}, True, "same", 9),  # a fork costs one step
        ({5: 400}, True, "beyond", 5),  # more than rounding changes
    ],
)
def test_a_decision_that_rounding_may_change(
    flips: dict[int, int],
    reset: bool,
    word: str,
    judged: int,
) -> None:
    """It explains a difference of the gradients in its step."""
    b = with_decision(record(9, 1e-6), flips)
    for number in flips:
        gradient = b[number].sketches["gradient", "w"]
        b[number].sketches["gradient", "w"] = Sketch(gradient.sums * 1.5, 5_000, "float32")
    for step in b:
        step.reset = reset
    noisy = [with_decision(record(seed, 1e-6), {}) for seed in (1, 2, 3, 4)]
    for step in (step for steps in noisy for step in steps):
        step.reset = reset
    a = with_decision(record(), {})
    answer = judge(Comparison(a, a, b, noisy))
    assert (answer.word, len(answer.judged)) == (word, judged)


def test_a_tensor_with_more_noise_than_a_tenth_is_not_judged_but_named() -> None:
    """Its difference says nothing."""
    a, b = record(), record(9, 1e-6, output=2.0)
    noisy = [record(seed, 1e-6) for seed in (1, 2, 3, 4)]
    for seed, steps in enumerate(noisy):
        for step in steps:
            wild = step.sketches["output", "net"].sums + np.random.default_rng(seed).normal(
                size=251
            )
            step.sketches["output", "net"] = Sketch(wild, 5_000, "float32")
    answer = judge(Comparison(a, a, b, noisy))
    assert answer.word == "same"
    assert answer.noisy == {"output net"}


def test_a_missing_gradient_is_not_zero() -> None:
    """An optimizer skips a parameter without a gradient."""
    b = record(9, 1e-6)
    sketch_of_other = b[4].sketches.pop(("gradient", "w"))
    b[4].sketches["gradient", "other"] = sketch_of_other
    answer = compared(b)
    assert answer.first is not None
    assert (answer.first.step, answer.first.text) == (4, "is missing in B")


def test_a_value_that_is_not_finite_in_b_only_is_beyond_rounding() -> None:
    """A difference with NaN has no ratio."""
    b = record(9, 1e-6)
    sums = b[2].sketches["output", "net"].sums * np.nan
    b[2].sketches["output", "net"] = Sketch(sums, 5_000, "float32")
    answer = compared(b)
    assert answer.first is not None
    assert (answer.first.step, answer.first.text) == (2, "is not finite in B")


def test_a_different_number_of_steps_is_beyond_rounding() -> None:
    """The common steps are the same up to rounding."""
    answer = compared(record(9, 1e-6)[:7])
    assert answer.first is not None
    assert (answer.word, answer.first.text) == ("beyond", "10 in A, 7 in B")


def test_a_mode_of_the_recorder_lets_compilers_work() -> None:
    """PyTorch does not compile in a mode that it sees, before 2.9 by a flag of a mode's entry."""
    assert all(issubclass(mode, UnseenMode) for mode in (Operators, StepMode, JudgedOperators))
    assert UnseenMode.ignore_compile_internals()
    mode = UnseenMode()
    enter(mode)
    assert not is_in_torch_dispatch_mode()
    leave(mode)


def test_decisions_that_b_hides_explain_few_steps_and_no_output() -> None:
    """A compiled program shows no decisions."""
    a = with_decision(record(), {})
    noisy = [with_decision(record(seed, 1e-6), {}) for seed in (1, 2, 3, 4)]
    words = {}
    for kind, steps in (("gradient", (4,)), ("gradient", (2, 4, 6)), ("output", (4,))):
        b = record(9, 1e-6)
        for number in steps:
            sums = b[number].sketches[kind, "w" if kind == "gradient" else "net"].sums * 1.5
            key = kind, "w" if kind == "gradient" else "net"
            b[number].sketches[key] = Sketch(sums, 5_000, "float32")
        for step in (step for run in (b, *noisy) for step in run):
            step.reset = True
        words[kind, steps] = judge(Comparison(a, a, b, noisy)).word
    assert list(words.values()) == ["same", "beyond", "beyond"]


def test_sketches_of_the_shards_of_ranks_add_up() -> None:
    """A whole tensor is taken from one rank; losses of different numbers of ranks are not kept."""
    ranks = []
    for rank in range(2):
        step = Step()
        step.sketches["gradient", "w"] = Sketch(np.full(251, 1.0 + rank), 500, "float32", "", True)
        step.sketches["gradient", "v"] = Sketch(np.ones(251), 500, "float32")
        step.sketches["loss", ""] = Sketch(np.ones(251), 1, "float32")
        ranks.append([step])
    (whole,) = rounding.merged(ranks, whole=True)
    assert {key: s.sums[0] for key, s in whole.sketches.items()} == {
        ("gradient", "w"): 3.0,
        ("gradient", "v"): 1.0,
    }
    (each,) = rounding.merged(ranks, whole=False)
    assert ("loss", " of rank 1") in each.sketches


def test_a_decision_is_named_with_its_module() -> None:
    """Also in the steps of a training without ranks."""
    a = [with_decision(record(), {}), *(with_decision(record(s, 1e-6), {}) for s in (1, 2, 3, 4))]
    for step in a[0]:
        step.places["relu#0"] = "net.act"
    own, *noisy = (rounding.merged([steps], whole=False) for steps in a)
    b = with_decision(record(9, 1e-6, gradient=1.5), {3: 1})
    (fork,) = judge(Comparison(own, own, b, noisy)).forks.values()
    assert fork.name == "relu#0 in net.act"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"lr": 0.001, "fused": None}, {"lr": 0.001, "fused": True}, True),
        ({"lr": 0.001}, {"lr": 0.0010000000474974513}, True),  # in a tensor of float32
        ({"lr": 0.001}, {"lr": 0.00100001}, False),
        ({"betas": [0.9, 0.999]}, {"betas": [0.9, 0.99]}, False),
        ({"nesterov": False}, {"nesterov": True}, False),
        (
            {"weight_decay": 0, "decoupled_weight_decay": False},  # Adam
            {"weight_decay": 0, "decoupled_weight_decay": True},  # AdamW
            True,
        ),
        (
            {"weight_decay": 0.1, "decoupled_weight_decay": False},
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
            False,
        ),
    ],
)
def test_hyperparameters_are_compared_exactly(
    a: dict[str, Any],
    b: dict[str, Any],
    same: bool,
) -> None:
    """Except for settings that select a kernel."""
    steps = [
        Step(hyperparameters=rounding._by_parameter({"o0": [values]}, {"o0.g0.p0": "w"}))
        for values in (a, b)
    ]
    rows = list(rounding.exact_rows(0, *steps))
    assert (rows == []) is same


def test_batches_of_equal_types_are_compared_exactly() -> None:
    """With different types the calls differ, as if gradients are accumulated."""
    a = Step(exact={("batch", "c0[0]"): (("int64", (8,)), "00")})
    b = Step(exact={("batch", "c0[0]"): (("int64", (8,)), "11")})
    c = Step(exact={("batch", "c0[0]"): (("int64", (4,)), "11")})
    assert [row.text for row in rounding.exact_rows(0, a, b)] == ["differs"]
    assert list(rounding.exact_rows(0, a, c)) == []


def test_the_noise_of_a_precision_is_read_from_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 and bfloat16 products of float32 have more noise."""
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=True))
    assert noise.product_eps(ATEN.mm.default, "cuda") == 2.0**-10
    assert noise.product_eps(ATEN.exp.default, "cuda") == 0


def test_a_decision_about_fewer_rows_is_not_visible() -> None:
    """B may accumulate the gradients of parts of the batch."""
    a = with_decision(record(), {})
    b = with_decision(record(9, 1e-6), {})
    noisy = [with_decision(record(seed, 1e-6), {}) for seed in (1, 2, 3, 4)]
    for step in b:
        step.sketches["decision", "relu#0"] = Sketch(np.zeros(251), 2_500, "float32", "0")
    gradient = b[4].sketches["gradient", "w"]
    b[4].sketches["gradient", "w"] = Sketch(gradient.sums * 1.5, 5_000, "float32")
    for step in (step for run in (b, *noisy) for step in run):
        step.reset = True
    assert judge(Comparison(a, a, b, noisy)).word == "same"


@pytest.mark.parametrize(("optimizers", "word"), [("ab", "same"), ("a", "beyond")])
def test_a_decision_may_change_the_gradients_of_a_second_optimizer(
    optimizers: str, word: str
) -> None:
    """It steps after the same backward pass, in a step of its own."""
    a, b = with_decision(record(), {}), with_decision(record(9, 1e-6), {2: 1})
    noisy = [with_decision(record(seed, 1e-6), {}) for seed in (1, 2, 3, 4)]
    gradient = b[3].sketches["gradient", "w"]
    b[3].sketches["gradient", "w"] = Sketch(gradient.sums * 1.5, 5_000, "float32")
    for steps in (a, b, *noisy):
        for number, step in enumerate(steps):
            step.reset = True
            step.hyperparameters = {optimizers[number % len(optimizers)]: {"lr": 0.1}}
    assert judge(Comparison(a, a, b, noisy)).word == word


@pytest.mark.parametrize(("changed", "word"), [(True, "beyond"), (False, "same")])
def test_an_optimizer_state_that_only_b_changes_between_steps_is_beyond(
    changed: bool, word: str
) -> None:
    """The state of A, with which the next step begins, would hide it."""
    b = record(9, 1e-6)
    for step in b:
        step.reset = True
    b[4].changed = changed
    assert compared(b).word == word


def test_gradients_of_a_compiled_optimizer_are_not_compared() -> None:
    """It calls no hook, so they are read before the program clips them."""
    a, b = record(), record(9, 1e-6, gradient=2.0)
    for step in a:
        step.hyperparameters = {"w": {"lr": 0.1}}
    assert judge(Comparison(a, a, b, NOISY)).word == "same"


@pytest.mark.parametrize(
    ("shape", "word"), [((20, 250), "beyond"), ((5_000,), "beyond"), ((250, 20), "same")]
)
def test_a_tensor_in_another_order_is_not_compared(shape: tuple[int, ...], word: str) -> None:
    """A rewrite may have time before the batch; a flattened tensor keeps its order."""
    sides = record(), record(9, 1e-6, output=1.5)
    for steps, own in zip(sides, ((20, 250), shape), strict=True):
        for step in steps:
            step.sketches["output", "net"] = replace(step.sketches["output", "net"], shape=own)
    noisy = [record(seed, 1e-6) for seed in (1, 2, 3, 4)]
    assert judge(Comparison(sides[0], sides[0], sides[1], noisy)).word == word


def test_a_transposed_parameter_is_not_in_b() -> None:
    """The answer counts it."""
    a, b = record(), record(9, 1e-6)
    for steps, shape in ((a, (20, 250)), (b, (250, 20))):
        sums = steps[0].sketches["parameter", "w"].sums
        steps[0].sketches["initial", "w"] = Sketch(sums, 5_000, "float32", shape=shape)
    assert judge(Comparison(a, a, b, NOISY)).unmatched == ["w"]


@pytest.mark.parametrize(("calls", "word"), [(2, "beyond"), (1, "same")])
def test_outputs_of_a_module_that_b_calls_less_often_are_not_compared(
    calls: int, word: str
) -> None:
    """Its first call may be the second one of A."""
    a, b = record(), record(9, 1e-6, output=1.5)
    noisy = [record(seed, 1e-6) for seed in (1, 2, 3, 4)]
    for steps in (a, b, *noisy):
        for step in steps:
            output = step.sketches.pop(("output", "net"))
            count = calls if steps is b else 2
            step.sketches |= {("output", f"net#{number}"): output for number in range(count)}
    assert judge(Comparison(a, a, b, noisy)).word == word


# Values that differ between runs of A, states, and tensors that only one side has


def test_a_complex_tensor_has_a_sketch() -> None:
    """Else the gradient of a complex weight would not be judged."""
    weight = torch.randn(300, dtype=torch.complex64)
    more = convert(sketches.Sketches().details_of(weight, Digester().start(weight)), More)
    known = rounding.sketch_of(TraceEvent("gradient", "w", "00", more))
    assert known is not None
    assert rounding.norm_of(known.sums) == pytest.approx(float(weight.norm()), rel=0.15)


def with_batches(steps: list[Step], digests: str) -> list[Step]:
    """The steps with a batch of integers each."""
    for step, digest in zip(steps, digests, strict=True):
        step.exact["batch", "c0[0]"] = ("int64", (8,)), digest
    return steps


@pytest.mark.parametrize(
    ("noisy", "word"),
    [("aaaaaaaaaa", "beyond"), ("cccccccccc", "cannot tell"), ("aaaaaaaaxy", "same")],
)
def test_a_value_that_differs_between_runs_of_a_is_not_the_fault_of_b(
    noisy: str, word: str
) -> None:
    """The order of the batches may have no seed."""
    b = "aaaaaaaabb" if word == "same" else "bbbbbbbbbb"
    a = with_batches(record(), "aaaaaaaaaa")
    runs = [with_batches(record(seed, 1e-6), noisy) for seed in (1, 2, 3, 4)]
    answer = judge(Comparison(a, a, with_batches(record(9, 1e-6), b), runs))
    assert answer.word == word
    assert {row.text for row in answer.forks.values()} <= {rounding.UNSTEADY}


def test_initial_values_that_differ_between_runs_of_a_are_not_judged() -> None:
    """The model may have no seed."""
    runs = [record(), record(9, 1e-6), *(record(seed, 1e-6) for seed in (1, 2, 3, 4))]
    for seed, steps in enumerate(runs):
        sums = np.random.default_rng(seed).normal(size=251)
        steps[0].sketches = {("initial", "w"): Sketch(sums, 251, "float32"), **steps[0].sketches}
    a, b, *noisy = runs
    answer = judge(Comparison(a, a, b, noisy))
    assert answer.word == "cannot tell"
    assert answer.forks[0].text == rounding.UNSTEADY


def test_hyperparameters_are_compared_after_a_fork() -> None:
    """Rounding does not change a schedule."""
    a, b = with_decision(record(), {}), with_decision(record(9, 1e-6, gradient=1.5), {3: 1})
    noisy = [with_decision(record(seed, 1e-6), {}) for seed in (1, 2, 3, 4)]
    for run in (a, b, *noisy):
        for step in run:
            step.hyperparameters = {"w": {"lr": 0.1}}
    b[8].hyperparameters = {"w": {"lr": 0.2}}
    answer = judge(Comparison(a, a, b, noisy))
    assert answer.first is not None
    assert (answer.first.step, answer.first.kind) == (8, "hyperparameters")


def with_states(steps: list[Step], count: int) -> list[Step]:
    """The steps, of which so many begin with the state of A."""
    for number, step in enumerate(steps):
        step.reset = 0 < number < count
    return steps


def test_steps_without_room_for_their_state_are_judged() -> None:
    """They continue from the last one that began with the state of A."""
    a, b = record(), with_states(record(9, 1e-6), 4)
    noisy = [with_states(record(seed, 1e-6), 4) for seed in (1, 2, 3, 4)]
    assert judge(Comparison(a, a, b, noisy)).judged == list(range(10))


def test_a_state_with_other_names_is_beyond_rounding() -> None:
    """B may have made its optimizer again and lost the momentum."""
    a, b = record(), with_states(record(9, 1e-6), 6)
    noisy = [with_states(record(seed, 1e-6), 10) for seed in (1, 2, 3, 4)]
    answer = judge(Comparison(a, a, b, noisy))
    assert answer.first is not None
    assert (answer.first.step, answer.first.kind) == (6, "state")


def test_a_parameter_with_another_name_is_not_a_missing_gradient() -> None:
    """It is not compared, but counted."""
    a, b = record(), record(9, 1e-6)
    noisy = [record(seed, 1e-6) for seed in (1, 2, 3, 4)]
    for run, name in ((a, "w"), (b, "other"), *((run, "w") for run in noisy)):
        run[0].sketches["initial", name] = run[0].sketches["output", "net"]
        for kind in ("gradient", "parameter") if name != "w" else ():
            for step in run:
                step.sketches[kind, name] = step.sketches.pop((kind, "w"))
    answer = judge(Comparison(a, a, b, noisy))
    assert (answer.word, answer.unmatched) == ("same", ["w"])


def test_a_tensor_that_is_zero_in_a_only_has_a_finite_ratio() -> None:
    """Such as a bias that B does not initialize to zero."""
    runs = [record(), record(9, 1e-6), *(record(seed, 1e-6) for seed in (1, 2, 3, 4))]
    for number, run in enumerate(runs):
        sums = np.full(251, 0.01 * (number == 1))
        run[0].sketches = {("initial", "b"): Sketch(sums, 251, "float32"), **run[0].sketches}
    a, b, *noisy = runs
    first = judge(Comparison(a, a, b, noisy)).first
    assert first is not None
    assert row_text(first) == "the initial value of b: is zero in A, but not in B"


def test_a_lower_precision_of_b_is_named() -> None:
    """The noise of A does not cover it."""
    b = record(9, 1e-2)
    for step in b:
        output = step.sketches["output", "net"]
        step.sketches["output", "net"] = Sketch(output.sums, output.count, "bfloat16")
    first = compared(b).first
    assert first is not None
    assert first.text == "bfloat16 in B, float32 in A"


def test_a_state_is_judged_before_an_update_shows_it() -> None:
    """A later step begins with the state of A and would not show it."""
    a, b = record(), with_states(record(9, 1e-6), 10)
    noisy = [with_states(record(seed, 1e-6), 10) for seed in (1, 2, 3, 4)]
    for run in (a, b, *noisy):
        for number, step in enumerate(run):
            own = step.sketches["gradient", "w"]
            scale = 1.1 if run is b and number == 3 else 1.0
            step.sketches["new state", "w.m"] = Sketch(own.sums * scale, own.count, own.dtype)
    first = judge(Comparison(a, a, b, noisy)).first
    assert first is not None
    assert (first.step, row_text(first).partition(":")[0]) == (3, "the optimizer state w.m")


def test_the_state_of_a_gradient_that_is_only_rounding_is_not_judged() -> None:
    """Such as the momentum of a bias before a batch norm, whose weight decay is no rounding."""
    runs = [record(), record(9, 1e-6), *(record(seed, 1e-6) for seed in (1, 2, 3, 4))]
    for number, run in enumerate(runs):
        rounding_only = np.random.default_rng(number).normal(size=251) * 1e-7
        for step in run:
            gradient = step.sketches["gradient", "w"]
            step.sketches |= {("gradient", name): gradient for name in "uv"}
            step.sketches["gradient", "w"] = Sketch(rounding_only, 5_000, "float32")
            state = 1 + (40 if number == 1 else 1) * rounding_only
            step.sketches["new state", "w.m"] = Sketch(state, 5_000, "float32")
    answer = judge(Comparison(runs[0], runs[0], runs[1], runs[2:]))
    assert (answer.word, answer.noisy) == ("same", {"gradient w", "parameter w", "new state w.m"})


@pytest.mark.parametrize("scaled", [("loss",), ("loss", "gradient")])
def test_a_loss_with_another_factor_has_a_hint_if_the_updates_agree(
    scaled: tuple[str, ...],
) -> None:
    """A loss scale is divided out of the gradients again."""
    runs = [record(), record(9, 1e-6), *(record(seed, 1e-6) for seed in (1, 2, 3, 4))]
    for number, run in enumerate(runs):
        for step in run:
            step.sketches = {("loss", ""): Sketch(np.eye(1, 251)[0], 1, "float32"), **step.sketches}
            for key, own in step.sketches.items() if number == 1 else ():
                factor = 1024.0 if key[0] in scaled else 1.0
                step.sketches[key] = Sketch(own.sums * factor, own.count, own.dtype)
    a, b, *noisy = runs
    answer = judge(Comparison(a, a, b, noisy))
    assert answer.first is not None
    assert (answer.first.kind, answer.only_loss) == ("loss", "gradient" not in scaled)


def test_draws_of_other_shapes_are_named_as_a_cause() -> None:
    """Accumulated batches have other masks of dropout."""
    a, b = record(), record(9, 1e-6, gradient=2.0)
    for run, count in ((a, 500), (b, 250)):
        for step in run:
            step.sketches["draw", "bernoulli#0"] = Sketch(np.ones(251), count, "float32")
    assert judge(Comparison(a, a, b, NOISY)).other_draws
    assert not compared(record(9, 1e-6, gradient=2.0)).other_draws


# The recorder


def trained_from_states(tmp_path: Path, train: Callable[[], None]) -> list[list[Any]]:
    """The notes of each step in a run that loads the states of a run before."""
    recorded(train, keep_states=str(tmp_path))
    lines = recorded(train, start_from=str(tmp_path))
    return [[e[1] for e in line.get("events", ()) if e[0] == "note"] for line in lines[:-1]]


def closures() -> None:
    """Steps that begin with the optimizer, as in PyTorch Lightning."""
    net = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = net(normals(8, 4)).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


def two_optimizers() -> None:
    """Of which the second has a step of its own."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in net]
    for _ in range(2):
        net.zero_grad()
        net(normals(8, 4)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def adversarial() -> None:
    """A graph of the generator outlives a step of the discriminator."""
    one, two = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 1)
    first, second = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (two, one))
    for _ in range(2):
        made = one(normals(8, 4))
        two(made.detach()).mean().backward()
        first.step()
        two(made).mean().backward()
        second.step()


@pytest.mark.parametrize("train", [closures, two_optimizers, adversarial])
def test_every_step_begins_with_the_state_of_a(tmp_path: Path, train: Callable[[], None]) -> None:
    """Whatever begins it, and whatever graph needs the parameters."""
    torch.manual_seed(0)
    first, *others = trained_from_states(tmp_path, train)
    assert first == []
    assert all(notes == ["reset"] for notes in others)


def test_a_mode_of_the_program_may_end_within_a_step() -> None:
    """The recorder's mode is below it; no mode stays."""
    mode = StepMode(SimpleNamespace(is_on=lambda _mode: False))  # type: ignore[arg-type]
    with UnseenMode():
        enter(mode)
    assert python_dispatch._get_current_dispatch_mode_stack() == [mode]
    with UnseenMode() as other:
        leave(mode)
        assert python_dispatch._get_current_dispatch_mode_stack() == [other]
    assert python_dispatch._get_current_dispatch_mode_stack() == []
