"""Are the bits identical in every process, and do settings affect them as required?"""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from xorbench.answers import IDENTICAL
from xorbench.records.schema.training import TrainingRecord
from xorbench.state_digest import first_difference
from xorbench.verdicts import Verdict, failed, judged, passed, skipped, some
from xorbench.xor.analysis import settings_table
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks.row import Check
from xorbench.xor.matrix.axes import ANY_ORDER, Axis, reordering
from xorbench.xor.matrix.case import ProcessConfig, Variant
from xorbench.xor.matrix.engines import inputs_name, training_kind
from xorbench.xor.matrix.matrix import edges, group_name


def inputs(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """All trainings of a seed start from identical points and weights."""
    by_source: dict[str, list[TrainingRecord]] = {}
    for training in evidence.run.trainings:
        by_source.setdefault(source(evidence.variant(training)), []).append(training)
    for origin, trainings in by_source.items():
        counts = Counter(training.inputs_sha256 for training in trainings)
        usual, _ = counts.most_common(1)[0]
        differing = [f"{t.case.id} in {t.process}" for t in trainings if t.inputs_sha256 != usual]
        expected = f"one digest over {len(trainings)} trainings"
        wrong = f"{len(counts)} digests; differing: {some(differing)}" if differing else ""
        yield judged(name, origin, expected, wrong, usual[:16])


def source(variant: Variant) -> str:
    """The origin of points and initial weights: a seed, and a config that may change them.

    `randn` differs between instruction sets, and may differ between PyTorch versions. The inputs of
    the universal training are identical everywhere.
    """
    name = inputs_name(variant.case)
    config = replace(ProcessConfig(), python=variant.config.python, env=variant.config.env)
    is_universal = config == ProcessConfig() or training_kind(variant.case) == "universal"
    return name if is_universal else f"{name} @{config.id}"


def rerun(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Every process of a variant records the same epoch digests."""
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        if len(trainings) < 2:
            yield skipped(
                name,
                variant.id,
                "identical epoch digests",
                "one process only: --processes 2 compares two",
            )
            continue
        first, expected = trainings[0], f"identical epoch digests in {len(trainings)} processes"
        diverged = {
            training.process: f"{training.process} diverges from {first.process} at epoch {epoch}"
            for training in trainings[1:]
            if (epoch := first_difference(first.epoch_digests, training.epoch_digests)) is not None
        }
        if diverged and reordering(variant.case):
            actual = "; ".join([*diverged.values(), _any_order(variant)])
            yield skipped(name, variant.id, expected, actual)
        elif diverged:
            processes = first.process, next(iter(diverged))
            hint = _race_hint(evidence.run.info.id, variant.id, *processes)
            yield failed(name, variant.id, expected, "; ".join(diverged.values()), hint)
        else:
            yield passed(name, variant.id, expected, first.weights_sha256[:16])


def _any_order(variant: Variant) -> str:
    """Why the bits of this variant's trainings may differ."""
    return f"in_order false, num_workers {variant.case.num_workers}: {ANY_ORDER.reason}"


def _race_hint(run: str, variant: str, *processes: str) -> str:
    sides = shlex.join(f"{run}:{variant}#{process}" for process in processes)
    return f"suspect the hardware or a race; locate it: python -m xorbench diff {sides}"


def warm_up(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """The epochs of the warm-up run are identical to the first timed epochs."""
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        expected = (
            f"the first {len(trainings[0].warmup_epoch_digests)} epochs identical in both runs"
        )
        diverged = [
            f"in {training.process} they diverge at epoch {epoch}"
            for training in trainings
            if (epoch := first_difference(training.warmup_epoch_digests, training.epoch_digests))
            is not None
        ]
        if diverged and reordering(variant.case):
            actual = "; ".join([*diverged, _any_order(variant)])
            yield skipped(name, variant.id, expected, actual)
        elif diverged:
            yield failed(name, variant.id, expected, "; ".join(diverged), _warm_up_hint(trainings))
        elif not trainings[0].warmup_epoch_digests:
            yield skipped(name, variant.id, expected, "this run had no warm-up")
        else:
            yield passed(name, variant.id, expected, "identical")


def _warm_up_hint(trainings: Sequence[TrainingRecord]) -> str:
    first, *others = (training.epoch_digests for training in trainings)
    if any(first_difference(first, digests) is not None for digests in others):
        return "rerun fails, too, so the training is not reproducible: see rerun first"
    return LEFTOVER


def invariance(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """A change of one setting keeps or changes the bits as the settings table requires."""
    for axis, members in edges(evidence.variants):
        yield _edge(name, axis, members, evidence)


def _edge(name: str, axis: Axis, members: list[Variant], evidence: Evidence) -> Verdict:
    subject = group_name(axis, members)
    pairs = settings_table.pairs(axis, members, evidence)
    expectations = dict.fromkeys(pair.expectation for pair in pairs)
    expected = "; ".join(
        dict.fromkeys(f"{settings_table.must(e.bits)}: {e.reason}" for e in expectations)
    )
    if broken := [pair for pair in pairs if pair.broken]:
        hint = _hint(evidence.run.info.id, broken[0])
        return failed(name, subject, expected, some([_broken(pair) for pair in broken]), hint)
    seen = ("kept" if p.diverged is None else f"changed at epoch {p.diverged}" for p in pairs)
    is_binding = any(expectation.bits != "may change" for expectation in expectations)
    verdict = passed if is_binding else skipped
    return verdict(name, subject, expected, ", ".join(dict.fromkeys(seen)))


def _hint(run: str, broken: settings_table.Pair) -> str:
    """The hint for the first pair that violates its expectation."""
    if broken.diverged is None:
        return "the setting had no effect: see its row in the settings table"
    return f"locate it: python -m xorbench diff {run}:{broken.a.id} {run}:{broken.b.id}"


def _broken(pair: settings_table.Pair) -> str:
    values = f"{pair.axis.value(pair.a)} and {pair.axis.value(pair.b)}"
    bits = "have identical bits" if pair.diverged is None else f"diverge at epoch {pair.diverged}"
    return f"{values} {bits}"


LEFTOVER: Final = "state of one training affects the next training of the process"

INPUTS: Final = Check(
    "inputs",
    "all trainings of a seed start from identical points and weights",
    inputs,
    "the points or the initial weights differ before training begins: see this check first",
    IDENTICAL,
)
RERUN: Final = Check(
    "rerun",
    "every fresh process records the same digest after every epoch",
    rerun,
    "suspect the hardware or a race",
    IDENTICAL,
    needs="two processes of a config (--processes 2)",
)
WARM_UP: Final = Check(
    "warm-up",
    "the epochs of a warm-up run are identical to the first timed epochs",
    warm_up,
    LEFTOVER,
    IDENTICAL,
)
INVARIANCE: Final = Check(
    "invariance",
    "changing one setting keeps or changes the bits as required",
    invariance,
    "docs/determinism.md lists the required effect of each setting on the bits",
    IDENTICAL,
    needs="two values of a setting",
)
