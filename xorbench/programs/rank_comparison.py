"""Whether a run on several ranks makes the updates of another run, and the cause if it does not."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from xorbench.programs.questions.rounding import row_text
from xorbench.programs.rounding import Array, Key, Row
from xorbench.programs.whole_steps import WholeStep
from xorbench.verdicts import counted, some

GROSS: Final = 0.01  # relative difference of a gradient that no rounding explains
CALM: Final = 1e-4  # largest relative difference before it; above, rounding may have grown
NEGLIGIBLE: Final = 1e-5  # of the largest gradient of the step: a gradient that is rounding only
EXACT: Final = 0.002  # relative error of a recognized factor
REDUCTION: Final = (
    "reduce the gradients over all ranks before the optimizer steps: call DistributedDataParallel,"
    " not its module, and end no_sync() before the last backward pass"
)
FACTOR: Final = "divide the sum of the gradients once by the number of ranks, the loss by no more"
PASSES: Final = "divide the loss of each pass once by the number of passes of a step"
SUM: Final = "{} times the right one: a sum in place of a mean"
TWICE: Final = "1/{} of the right one: a mean is divided twice"
AS_WITHOUT_EPOCH: Final = "as without shuffling or without set_epoch()"
TOO: Final = "too often", "too rarely"
UNEVEN: Final = "weight the loss of each rank by its rows, or give all ranks as many rows"
SAME: Final = "begin with the same weights, and update them in the same way, on all ranks"
SCALED: Final = "scale and clip the gradients by the same number on all ranks"
ANOTHER_ORDER: Final = "another order or with random augmentation"
BATCHNORM: Final = "torch.nn.SyncBatchNorm.convert_sync_batchnorm(model) normalizes over all ranks"
CERTAIN: Final = (REDUCTION, FACTOR, PASSES, SCALED)  # also if ranks draw other random numbers
BUFFER: Final = "compute the buffer from the rows of all ranks, or do not use it in training"


class Cause(NamedTuple):
    """The first tensor that differs, the pattern of the difference, and a hint."""

    step: int
    kind: str
    name: str
    pattern: str
    hint: str = ""


class SampleComparison:
    """The samples of two runs, in each step and in all steps, regardless of the rank.

    `before` are the earlier steps of the reference.

    Attributes:
        same_steps: the number of first steps with the same samples.
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
        pairs = pairs if all(map(all, pairs)) else []
        self.step = next((number for number, (x, y) in enumerate(pairs) if x != y), None)
        self.same_steps = len(a) if self.step is None else self.step
        self.sizes = next(((x.total(), y.total()) for x, y in pairs), (0, 0))
        seen_a, seen_b = (sum((pair[side] for pair in pairs), Counter[str]()) for side in (0, 1))
        more, self.less = seen_b - seen_a, seen_a - seen_b
        known = seen_a.keys() | {row for step in before for row in step.samples}
        new, never = len(more.keys() - known), len(self.less.keys() - seen_b)
        is_whole = len(set(seen_a.values())) == 1  # as in whole epochs
        self.is_lost = bool(len(more) > new and self.less) and is_whole
        where = f"from step {self.step} on"
        if not pairs:
            self.text = "not compared: the inputs of the model have no rows"
        elif self.step is None:
            period = _period([samples for _, samples in pairs])
            again = f"; the batches of step 0 return in step {period}, {AS_WITHOUT_EPOCH}"
            same = f"the same in {counted(self.same_steps, 'step')}"
            self.text = f"{same}{again if period else ''}"
        elif self.is_lost:
            often, rarely = ("twice", "never") if never == len(self.less) else TOO
            self.text = f"{len(more) - new} seen {often}, {len(self.less)} {rarely}"
        elif new:
            self.text = f"{counted(new, 'new row')}, as in {ANOTHER_ORDER}, {where}"
        elif more and not self.less:
            self.text = f"{len(more)} seen twice, none missing, as with a padded sampler, {where}"
        else:
            self.text = f"in a different order {where}"


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
        largest = max((_norm(sketch.sums) for sketch in sketches.values()), default=0.0)
        for key, sketch in sketches.items():
            other = b.step.sketches.get(key)
            if other is not None and other.count == sketch.count:
                gap = _norm(other.sums - sketch.sums)
                is_seen = gap > NEGLIGIBLE * largest
                yield key, gap / max(_norm(sketch.sums), 1e-300) if is_seen else 0.0


def cause_of(number: int, key: Key, a: WholeStep, b: WholeStep) -> Cause:
    """The pattern of the difference of a tensor."""
    own, other = a.step.sketches[key].sums, b.step.sketches[key].sums
    shares = list(b.shares.get(key, ()))
    kind, name = key
    pattern, hint = "", ""
    if kind == "gradient" and len(shares) > 1 and _differ(shares):
        pattern, hint = _share_pattern(own, shares)
    elif kind == "gradient":
        pattern, hint = _factor_pattern(_factor(own, other), len(shares), (a.passes, b.passes))
    elif shares and max(_norm(share - shares[0]) for share in shares) > _norm(other - own) / 2:
        pattern, hint = f"{_ranks_text(shares)} have different values", SAME
    gap = _norm(other - own) / max(_norm(own), 1e-300)
    if not hint:
        text, hint = _differing_buffer(b)
        pattern = text or pattern
    if not hint and kind == "gradient" and len(set(b.rows)) > 1:
        rows = some(list(map(str, b.rows)))
        pattern, hint = f"the ranks have {rows} rows; a mean of their means is not the mean", UNEVEN
    pattern = pattern or f"the difference is {gap:.2g} times the tensor"
    return Cause(number, kind, name, pattern, hint)


def cause_of_row(row: Row, a: Sequence[WholeStep], b: Sequence[WholeStep]) -> Cause:
    """The cause of a tensor beyond rounding, without a pattern in units of the noise."""
    key = row.kind, row.name
    cause = Cause(row.step, *key, row_text(row).partition(": ")[2])
    if row.text or key not in a[row.step].step.sketches:
        return cause
    named = cause_of(row.step, key, a[row.step], b[row.step])
    return named if named.hint else cause


def _share_pattern(own: Array, shares: Sequence[Array]) -> tuple[str, str]:
    total, ranks = sum(shares[1:], shares[0]), _ranks_text(shares)
    factors = [_factor(own, share) for share in shares]
    if None not in factors:
        texts = [f"rank {rank} has {factor:.4g} times" for rank, factor in enumerate(factors)]
        return f"{some(texts)} the right one", SCALED
    if _factor(own, total) is not None:
        return f"{ranks} have a share each: a reduction is missing", REDUCTION
    return f"{ranks} have different gradients", ""


def _ranks_text(shares: Sequence[Array]) -> str:
    if len(shares) > 3:
        return f"{len(shares)} ranks"
    return " and ".join(f"rank {rank}" for rank in range(len(shares)))


def _factor_pattern(factor: float | None, ranks: int, passes: tuple[int, int]) -> tuple[str, str]:
    """The meaning of a factor between two gradients, and a hint; `passes` are those of a step."""
    if factor is None or abs(factor - 1) < GROSS:
        return "", ""
    ratio, times = passes[1] / passes[0], f"{factor:.4g} times the right one"
    if (
        passes[0] != passes[1]
        and min(abs(factor - ratio), abs(factor - 1 / ratio)) < EXACT * factor
    ):
        return f"{times}, with {passes[1]} passes in place of {passes[0]}", PASSES
    for value, text in ((ranks, SUM), (1 / max(ranks, 1), TWICE)):
        if ranks > 1 and abs(factor - value) < EXACT * value:
            return text.format(ranks), FACTOR
    return times, FACTOR


def _factor(own: Array, other: Array) -> float | None:
    """The factor between two tensors; None if they are no multiples of each other."""
    square = float(own @ own)
    factor = float(other @ own) / square if square else 0.0
    error = _norm(other - factor * own)
    return factor if factor and error <= EXACT * _norm(other) else None


def _differing_buffer(b: WholeStep) -> tuple[str, str]:
    """A buffer that differs between the ranks, first a running mean, and a hint; else empty."""
    names = [n for (kind, n), shares in b.shares.items() if kind == "buffer" and _differ(shares)]
    for name in names:
        if name.endswith("running_mean"):
            norm = f"BatchNorm {name.removesuffix('running_mean').rstrip('.')}".strip()
            return f"{norm} normalizes by the rows of each rank, not of all", BATCHNORM
    return (f"buffer {names[0]} differs between the ranks", BUFFER) if names else ("", "")


def _differ(shares: Sequence[Array]) -> bool:
    gap = max(_norm(share - shares[0]) for share in shares)
    return gap > EXACT * max(map(_norm, shares))


def _norm(sums: Array) -> float:
    return float(np.linalg.norm(sums))
