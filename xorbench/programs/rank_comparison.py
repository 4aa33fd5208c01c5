"""Whether a run on several ranks makes the updates of another run, and the cause if it does not."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from xorbench.errors import BadOption
from xorbench.options.option_text import option
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.rank_agreement import Agreement
from xorbench.programs.rounding import Array, Comparison, Key, RoundingAnswer, Row, judge, norm_of
from xorbench.programs.rounding_report import conclusion_of, row_text
from xorbench.programs.whole_steps import Loss, WholeStep, as_one, steps_from
from xorbench.verdicts import capitalized, counted, some

HOOK: Final = "a communication hook"  # the reason that `recorder/replicas.py` records
# The steps of the runs with noise of rounding, or the conclusion if one is not comparable.
Noise: TypeAlias = Callable[[], Sequence[Sequence[WholeStep]] | Conclusion]

GROSS: Final = 0.01  # relative difference of a gradient that no rounding explains
CALM: Final = 1e-4  # largest relative difference before it; above, rounding may have grown
NEGLIGIBLE: Final = 1e-5  # of the largest gradient of the step: a gradient that is rounding only
EXACT: Final = 0.002  # relative error of a recognized factor
# Hints.
REDUCTION: Final = (
    "reduce the gradients over all ranks before the optimizer steps: call DistributedDataParallel,"
    " not its module, and end no_sync() before the last backward pass"
)
FACTOR: Final = (
    "divide the sum of the gradients once by the number of ranks, the loss by no more:"
    " DistributedDataParallel and fully_shard divide, so the loss must be a mean over the rows"
)
PASSES: Final = "divide the loss of each pass once by the number of passes of a step"
UNEVEN: Final = "weight the loss of each rank by its rows, or give all ranks as many rows"
SAME: Final = "begin with the same weights, and update them in the same way, on all ranks"
HYPERPARAMETERS: Final = (
    "set the same hyperparameters on any number of ranks: the batch of all ranks is the same"
)
SCALED: Final = "scale and clip the gradients by the same number on all ranks"
BATCHNORM: Final = "torch.nn.SyncBatchNorm.convert_sync_batchnorm(model) normalizes over all ranks"
BUFFER: Final = "compute the buffer from the rows of all ranks, or do not use it in training"
# Gradients that differ between numbers of ranks by design: the answer, and a hint.
DRAWS: Final = (
    "cannot tell: the model draws random numbers, as in dropout, which differ between ranks by"
    " design; the batches are the same, the gradients are not",
    "set dropout and other random draws of the model to zero, such as model.eval() for the dropout"
    " modules or p=0, and compare again",
)
HOOKED: Final = (
    "cannot tell: a communication hook changes the gradients, which then differ by more than"
    " rounding",
    "compare again without register_comm_hook()",
)
ORDER: Final = (
    "make the batches of all ranks together the batch of one rank: use the same sampler, such as"
    " DistributedSampler, on any number of ranks, and no random augmentation"
)
LOCAL: Final = (
    "look for a number that each rank computes from its own rows or shards, such as the norm for"
    " clipping, a mean or a count, and compute it over all ranks"
)
CERTAIN: Final = (REDUCTION, FACTOR, PASSES, SCALED)  # also if ranks draw other random numbers


class Cause(NamedTuple):
    """The first tensor that differs, with the pattern of its difference as text, and a hint."""

    row: Row
    hint: str = ""


class SampleComparison:
    """The samples of two runs, in each step and in all steps, regardless of the rank.

    `before` are the earlier steps of the reference.

    Attributes:
        step: the first step with different samples; None if there is none.
        sizes: the number of rows of the first step, of both.
        less: the samples seen less often than in the reference.
        is_lost: whether samples are missing and repeated, not only in a different order.
        text: the comparison in words.
    """

    def __init__(
        self, a: Sequence[WholeStep], b: Sequence[WholeStep], before: Sequence[WholeStep] = ()
    ) -> None:
        pairs = [(x.samples, y.samples) for x, y in zip(a, b, strict=False)]
        both = zip(a, b, strict=False)
        if any(x.elements == y.elements and x.rows and sum(x.rows) != sum(y.rows) for x, y in both):
            pairs = []  # the first dimension is another one, such as time
        pairs = pairs if any(map(any, pairs)) else []
        self.step = next((number for number, (x, y) in enumerate(pairs) if x != y), None)
        self.sizes = next(((x.total(), y.total()) for x, y in pairs), (0, 0))
        seen_a, seen_b = (sum((pair[side] for pair in pairs), Counter[str]()) for side in (0, 1))
        more, self.less = seen_b - seen_a, seen_a - seen_b
        earlier = [step.samples for step in before]
        new = len(more.keys() - seen_a.keys() - set[str]().union(*earlier))
        again, missing = _losses(earlier + [x for x, _ in pairs], earlier + [y for _, y in pairs])
        self.is_lost = bool(again and missing)
        if not pairs:
            self.text = "not compared: the inputs of the model have no rows of samples"
        elif self.step is None:
            self.text = f"the same in {counted(len(a), 'step')}"
            if period := _period([samples for _, samples in pairs]):
                self.text += f"; the batches of step 0 return in step {period}, as without"
                self.text += " shuffling or without set_epoch()"
        elif self.is_lost:
            is_never = not missing & seen_b.keys()
            often, rarely = ("twice", "never") if is_never else ("too often", "too rarely")
            self.text = f"{len(again)} seen {often}, {len(missing)} {rarely}"
        elif self.sizes[0] != self.sizes[1]:
            self.text = f"{self.sizes[1]} rows in place of {self.sizes[0]} in the first step"
        else:
            self.text = "in a different order"
            if new:
                self.text = f"{counted(new, 'new row')}, as in another order or with random"
                self.text += " augmentation,"
            elif more and not self.less:
                self.text = f"{len(more)} seen twice, none missing, as with a padded sampler,"
            self.text += f" from step {self.step} on"


def _losses(a: Sequence[Counter[str]], b: Sequence[Counter[str]]) -> tuple[set[str], set[str]]:
    """The rows that `b` sees too often or too rarely in an epoch of `a`; empty without epochs."""
    known, seen, starts = sum(a, Counter[str]()), set[str](), [0]
    for number, rows in enumerate(a):
        if seen & rows.keys():  # a row returns
            seen.clear()
            starts.append(number)
        seen |= rows.keys()
    starts = [0] if len(set(known.values())) == 1 else starts
    again, missing = set[str](), set[str]()
    for start, end in pairwise([*starts, len(a)]):
        own, other = (sum(run[start:end], Counter[str]()) for run in (a, b))
        if end < len(a) and own.keys() != known.keys():
            return set(), set()
        again |= {row for row in known if other[row] > max(own[row], 1)}
        missing |= {row for row in own if other[row] < own[row]}
    return again, missing


def _period(samples: Sequence[Counter[str]]) -> int:
    """The number of steps after which batches repeat to the end, for at least two steps."""
    periods = range(2, len(samples) - 1)
    return next((n for n in periods if samples[n:] == samples[:-n] and samples[0] != samples[1]), 0)


# Tensors


def gross_difference(a: Sequence[WholeStep], b: Sequence[WholeStep]) -> Cause | None:
    """The first gradient or initial parameter that differs far beyond rounding; else None.

    It follows a step without such a difference, so that growing rounding is not reported.
    """
    worst = 0.0
    for number, (x, y) in enumerate(zip(a, b, strict=False)):
        relatives = dict(_relatives(x, y))
        beyond = next((key for key, value in relatives.items() if value > GROSS), None)
        if beyond is not None:
            return cause_of(number, beyond, x, y) if worst < CALM else None
        worst = max(relatives.values(), default=0.0)
    return None


def _relatives(a: WholeStep, b: WholeStep) -> Iterator[tuple[Key, float]]:
    """The relative difference of each gradient and initial parameter."""
    for kind in ("initial", "gradient"):
        sketches = {key: s for key, s in a.step.sketches.items() if key[0] == kind}
        largest = max((norm_of(sketch.sums) for sketch in sketches.values()), default=0.0)
        for key, sketch in sketches.items():
            other = b.step.sketches.get(key)
            if other is not None and other.count == sketch.count:
                gap = norm_of(other.sums - sketch.sums)
                is_seen = gap > NEGLIGIBLE * largest
                yield key, gap / max(norm_of(sketch.sums), 1e-300) if is_seen else 0.0


def cause_of(number: int, key: Key, a: WholeStep, b: WholeStep) -> Cause:
    """The first pattern of the difference of a tensor that has a hint; else the first."""
    patterns = list(_patterns(number, key, a, b))
    text, hint = next((p for p in patterns if p[1]), patterns[0])
    return Cause(Row(number, *key, text=text), hint)


def cause_of_row(row: Row, a: Sequence[WholeStep], b: Sequence[WholeStep]) -> Cause:
    """The cause of a tensor beyond rounding, without a pattern in units of the noise."""
    key = row.kind, row.name
    if row.text or key not in a[row.step].step.sketches:
        return Cause(row)
    named = cause_of(row.step, key, a[row.step], b[row.step])
    return named if named.hint else Cause(row)


def _patterns(number: int, key: Key, a: WholeStep, b: WholeStep) -> Iterator[tuple[str, str]]:
    """The patterns in the difference of a tensor, and a hint for each: first the most specific."""
    own, other = a.step.sketches[key].sums, b.step.sketches[key].sums
    shares, gap = list(b.shares.get(key, ())), norm_of(other - own)
    ranks = " and ".join(f"rank {rank}" for rank in range(len(shares)))
    ranks = ranks if len(shares) < 4 else f"{len(shares)} ranks"
    size = f"the difference is {gap / max(norm_of(own), 1e-300):.2g} times the tensor"
    if key[0] != "gradient":
        if shares and max(norm_of(share - shares[0]) for share in shares) > gap / 2:
            yield f"{ranks} have different values", SAME
        elif key[0] == "initial":
            yield size, SAME
    elif not _differ(shares):
        count = max(len(shares), len(b.peers))
        yield from _scales(_factor(own, other), count, a.passes, b.passes)
    elif None not in (factors := [_factor(own, share) for share in shares]):
        texts = [f"rank {rank} has {factor:.4g} times" for rank, factor in enumerate(factors)]
        yield f"{some(texts)} the right one", SCALED
    elif _factor(own, sum(shares[1:], shares[0])) is not None:
        yield f"{ranks} have a share each: a reduction is missing", REDUCTION
    else:
        yield f"{ranks} have different gradients", ""
    yield from _buffer_patterns(number, b)
    if key[0] == "gradient" and len(set(b.rows)) > 1:
        rows = some(list(map(str, b.rows)))
        yield f"the ranks have {rows} rows; a mean of their means is not the mean", UNEVEN
    yield size, ""


def _buffer_patterns(number: int, b: WholeStep) -> Iterator[tuple[str, str]]:
    """The buffers that differ between the ranks, first the statistics of BatchNorm."""
    names = [n for (kind, n), sums in b.shares.items() if kind == "buffer" and _differ(sums)]
    for name in names:
        if name.endswith("running_mean") and not number:  # from the beginning
            norm = f"BatchNorm {name.removesuffix('running_mean').rstrip('.')}".strip()
            yield f"{norm} normalizes by the rows of each rank, not of all", BATCHNORM
    for name in names:
        yield f"buffer {name} differs between the ranks", BUFFER


def _scales(
    factor: float | None, ranks: int, passes: int, own_passes: int
) -> Iterator[tuple[str, str]]:
    """The meanings of a factor between two gradients, with the passes of a step of both."""
    if factor is None or abs(factor - 1) < GROSS:
        return
    times, ratio = f"{factor:.4g} times the right one", max(own_passes, 1) / max(passes, 1)
    halved = f"1/{ranks} of the right one: a mean is divided twice, or a sum is averaged"
    by_passes = f"{times}, with {own_passes} passes in place of {passes}"
    meanings = (
        (ratio, by_passes, PASSES),
        (1 / ratio, by_passes, PASSES),
        (ranks, f"{ranks} times the right one: a sum in place of a mean", FACTOR),
        (1 / max(ranks, 1), halved, FACTOR),
    )
    for value, text, hint in meanings:
        if value != 1 and abs(factor - value) < EXACT * value:
            yield text, hint
    whole = max(factor, 1 / factor)
    yield times, FACTOR if abs(whole - round(whole)) < EXACT * whole else LOCAL


def _factor(own: Array, other: Array) -> float | None:
    """The factor between two tensors; None if they are no multiples of each other."""
    square = float(own @ own)
    factor = float(other @ own) / square if square else 0.0
    error = norm_of(other - factor * own)
    return factor if factor and error <= EXACT * norm_of(other) else None


def _differ(shares: Sequence[Array]) -> bool:
    gap = max((norm_of(share - shares[0]) for share in shares), default=0.0)
    return gap > EXACT * max(map(norm_of, shares), default=0.0)


# The answer


@dataclass(slots=True)
class RunsCompared:
    """Two runs on different numbers of ranks.

    Attributes:
        names: the numbers of ranks in words.
        a, b: their steps.
        noise: makes runs of the first with noise of rounding.
        loss: how the losses of the ranks make the whole.
        first: the step of the first run at which the second begins; 0 if it is no resume.
    """

    names: tuple[str, str]
    a: Sequence[WholeStep]
    b: Sequence[WholeStep]
    noise: Noise
    loss: Loss | None = None
    first: int = 0
    samples: SampleComparison = field(init=False)
    details: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        before, self.a = self.a[: self.first], steps_from(self.a, self.first)
        counts = [f"{len(s)} with {n}" for s, n in zip((self.a, self.b), self.names, strict=True)]
        steps = (("steps", ", ".join(counts)),) if len(self.a) != len(self.b) else ()
        pairs = list(zip(self.a, self.b, strict=False))
        self.a = [as_one(x, x, self.loss) for x, _ in pairs]
        self.b = [as_one(y, x, self.loss) for x, (_, y) in zip(self.a, pairs, strict=True)]
        self.samples = SampleComparison(self.a, self.b, before)
        self.details = (("samples", capitalized(self.samples.text)), *steps)

    def require_equal_batches(self) -> None:
        """Raise `BadOption` if the ranks together have another number of rows than the first."""
        (a, b), names = self.samples.sizes, self.names
        if a != b:
            message = f"{option('ranks')}: a step has {a} rows with {names[0]}, {b} with {names[1]}"
            hint = "divide the batch by the number of ranks, and give numbers that divide it"
            raise BadOption(message, hint)

    def conclusion(self, agreement: Agreement) -> Conclusion:
        """The answer, or the disagreement of the ranks of the second run if that comes first."""
        failure, own = agreement.failure, self._conclusion(agreement)
        if own.step is not None and agreement.since >= own.step + (own.hint in ("", LOCAL)):
            return own
        return failure or own

    def _conclusion(self, agreement: Agreement) -> Conclusion:
        """The answer: from the samples, from gross differences, or in units of noise."""
        a, b = self.a[: self.samples.step], self.b[: self.samples.step]
        cause, answer = gross_difference(a, b), None
        if cause is None and self.samples.is_lost:
            return self._different(self.samples.step, f"samples: {self.samples.text}", ORDER)
        began_earlier = cause is not None and cause.row.step and not cause.hint
        if agreement.failure is None and a and (cause is None or began_earlier):
            runs = self.noise()
            if isinstance(runs, Conclusion):
                return runs
            noisy = [steps_from(run, self.first) for run in runs]
            noisy = [
                [as_one(*pair, self.loss) for pair in zip(run, a, strict=False)] for run in noisy
            ]
            own, other, *noise = ([whole.step for whole in side] for side in (a, b, *noisy))
            answer = judge(Comparison(own, own, other, noise))
            cause = cause_of_row(answer.first, a, b) if answer.first else cause
        if cause is None:
            return self._same(answer or RoundingAnswer("cannot tell"))
        row, hint = cause
        designs = {DRAWS: a[row.step].draws, HOOKED: HOOK in agreement.not_judged}
        design = next((each for each, applies in designs.items() if applies), None)
        if design and hint not in CERTAIN and row.kind != "initial":
            return Conclusion("inconclusive", design[0], hint=design[1], details=self.details)
        sides = ["before the kill", "after the resume"]
        sides = sides if self.first else [f"with {name}" for name in self.names]
        text = row_text(row)
        for letter, side in zip("AB", sides, strict=True):
            text = text.replace(f" in {letter}", f" {side}")
        hint = hint or {"gradient": LOCAL, "hyperparameters": HYPERPARAMETERS}.get(row.kind, "")
        return self._different(row.step, f"first in step {self.first + row.step}, in {text}", hint)

    def _different(self, step: int | None, finding: str, hint: str) -> Conclusion:
        a, b = self.names
        lead = f"{b} {'is' if b == '1 rank' else 'are'} not {a}"
        lead = f"resume is not exact: {b}" if self.first else lead
        text, step = f"{lead}: {finding}", None if step is None else self.first + step
        component, meaning = "number of ranks", "The two runs do not make the same updates."
        return Conclusion("fail", text, component, meaning, hint, self.details, step=step)

    def _same(self, answer: RoundingAnswer) -> Conclusion:
        same = conclusion_of(answer, Conclusion("pass", ""))
        if same.outcome == "inconclusive" and self.samples.step is None:
            return replace(same, details=self.details)
        if same.outcome == "inconclusive" or self.samples.less:
            steps = f"{len(answer.judged)} of {counted(len(self.a), 'step')} judged"
            finding = f"cannot tell: {steps}; samples: {self.samples.text}"
            return Conclusion("inconclusive", finding, hint=ORDER, details=self.details)
        finding = f"{self.names[1]} and {self.names[0]}: {same.finding}"
        finding += "" if self.samples.step is None else f"; samples: {self.samples.text}"
        finding += "".join(f"; {name}: {text}" for name, text in self.details[1:])
        return Conclusion("pass", finding, details=self.details)
