"""The checks: each reads the evidence and says of each subject whether it passes.

A check is a function and its row in `CHECKS`; its name there is the name in `verdicts.json`.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from xorbench.errors import (
    CHECK_FAILED,
    DEVICE_MISSING,
    INCONCLUSIVE,
    INTERRUPTED,
    PASSED,
)
from xorbench.judge import settings_table, witnesses
from xorbench.judge.evidence import Evidence, first_difference
from xorbench.judge.verdicts import failed, inconclusive, passed, skipped, some
from xorbench.observe.records import (
    Fact,
    Outcome,
    ProbeRecord,
    Run,
    TrainingRecord,
    Verdict,
    WeightRecord,
)
from xorbench.plan import digest
from xorbench.plan.axes import Axis
from xorbench.plan.case import ProcessConfig, Variant, device_type
from xorbench.plan.engines import inputs_name, training_kind
from xorbench.plan.matrix import edges, group_name
from xorbench.plan.recipe import BASE_BATCH_SIZE


def judge(run: Run) -> list[Verdict]:
    """Every check's verdicts on a run, in the order of `CHECKS`."""
    evidence = Evidence(run)
    return [verdict for name, check in CHECKS.items() for verdict in check(name, evidence)]


def completion(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Each case trains to its end in every process, and no process dies."""
    for variant in evidence.planned:
        lost = evidence.failures.get(variant.id, [])
        if lost:
            actual = "; ".join(f"{f.process}: {f.failed}" for f in lost)
            yield failed(name, variant.id, "trains to the end", actual, "see the logs/ folder")
        elif variant.id in evidence.unfinished:
            done = ", ".join(f"{u.slot}: {u.epochs}" for u in evidence.unfinished[variant.id])
            actual = f"stopped after epochs {done} of {variant.recipe.epochs}"
            hint = f"python -m xorbench run --resume {evidence.run.info.id} goes on"
            yield inconclusive(name, variant.id, "trains to the end", actual, hint)
        elif variant.id in evidence.trainings:
            yield passed(name, variant.id, "trains to the end", "it did")
    for process in evidence.run.info.processes:
        if process.died:
            hint = f"see logs/{process.id}.log, and the system's log for memory or hardware errors"
            yield failed(name, f"process {process.id}", "runs to the end", process.died, hint)


def accuracy(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Every test point is right, counted as integers; weights, losses and outputs are finite."""
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        tests = [training.test for training in trainings]
        expected = f"{tests[0].total}/{tests[0].total}"
        scores = ", ".join(dict.fromkeys(f"{test.correct}/{test.total}" for test in tests))
        flaws = dict.fromkeys(filter(None, map(not_finite, trainings)))
        actual = "; ".join([scores, *flaws])
        if all(test.correct == test.total for test in tests) and not flaws:
            yield passed(name, variant.id, expected, actual)
        else:
            yield failed(name, variant.id, expected, actual, _accuracy_hint(variant, trainings))


def not_finite(training: TrainingRecord) -> str:
    """What is not finite at the end of a training, and since which epoch; empty where all is."""
    return _not_finite_state(training) or "; ".join(_not_finite_outputs(training))


def _not_finite_outputs(training: TrainingRecord) -> Iterator[str]:
    for count in (training.test, training.train):
        if count.not_finite:
            yield f"{count.not_finite} of {count.total} outputs are not finite"


def _not_finite_state(training: TrainingRecord) -> str:
    epoch = _first_without_loss(training)
    weights = (training.weights or {}).values()
    if not all(np.isfinite(values_of(weight)).all() for weight in weights):
        return "weights are not finite" + ("" if epoch is None else f" after epoch {epoch}")
    lost = epoch is not None and training.losses[-1] is None
    return f"loss is not finite since epoch {epoch}" if lost else ""


def _first_without_loss(training: TrainingRecord) -> int | None:
    """The first epoch whose loss is not finite; None where all are, or the engine has none."""
    if training_kind(training.case) == "universal":
        return None
    return next((epoch for epoch, loss in enumerate(training.losses) if loss is None), None)


def _accuracy_hint(variant: Variant, trainings: list[TrainingRecord]) -> str:
    if any(map(_not_finite_state, trainings)):
        return _rate_hint(variant)
    if any(map(not_finite, trainings)):
        return "outputs of finite weights overflow: an operator is wrong, or the dtype too narrow"
    loss = max((t.losses[-1] or 0.0 for t in trainings), default=0.0)
    if loss > WILD_LOSS:
        return f"the loss ends at {loss:.3g}, that of a guess is 0.693: {_rate_hint(variant)}"
    if training_kind(variant.case) == "universal":
        return f"{_universal_hint(trainings)}; {_budget_hint(variant)}"
    return _budget_hint(variant)


WILD_LOSS: Final = 1.0  # a training that has learned nothing yet stays near ln 2


def _rate_hint(variant: Variant) -> str:
    rate = variant.recipe.learning_rate(variant.case.batch_size)
    scaled = " or --lr-scaling none" if rate > variant.recipe.lr else ""
    return f"lr {rate:g} may be too high here: try a lower --lr{scaled}"


def _universal_hint(trainings: list[TrainingRecord]) -> str:
    facts = [fact for training in trainings for fact in training.golden]
    if facts and all(fact.actual == fact.expected for fact in facts):
        return "the device computes right (see universal), but not every point is learned"
    return "see universal first: the device may compute wrong"


def _budget_hint(variant: Variant) -> str:
    recipe, size = variant.recipe, variant.case.batch_size
    short = f"{recipe.epochs} epochs at lr {recipe.learning_rate(size):g} may be too few here: try"
    more = f"--epochs {recipe.epochs * max(4, round(size / BASE_BATCH_SIZE))}"
    if size > BASE_BATCH_SIZE and recipe.lr_scaling == "none":
        return f"{short} --lr-scaling linear, or {more}"
    return f"{short} {more}, or other --seeds"


def inputs(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """All trainings of a seed start from the same points and weights."""
    by_source: dict[str, list[TrainingRecord]] = {}
    for training in evidence.run.trainings:
        by_source.setdefault(source(evidence.variant(training)), []).append(training)
    for drawn, trainings in by_source.items():
        counts = Counter(training.inputs_sha256 for training in trainings)
        usual, _ = counts.most_common(1)[0]
        odd = [f"{t.case.id} in {t.process}" for t in trainings if t.inputs_sha256 != usual]
        expected = f"one digest over {len(trainings)} trainings"
        if odd:
            actual = f"{len(counts)} digests; the odd ones: {some(odd)}"
            hint = (
                "the points or the initial weights differ before training begins: look there first"
            )
            yield failed(name, drawn, expected, actual, hint)
        else:
            yield passed(name, drawn, expected, usual[:16])


def source(variant: Variant) -> str:
    """What the points and the initial weights are drawn from: a seed, and what may draw otherwise.

    `randn` differs between instruction sets, and may between versions of PyTorch; the universal
    training draws the same everywhere.
    """
    name = inputs_name(variant.case)
    drawn_by = replace(ProcessConfig(), python=variant.config.python, env=variant.config.env)
    everywhere = drawn_by == ProcessConfig() or training_kind(variant.case) == "universal"
    return name if everywhere else f"{name} @{drawn_by.id}"


def rerun(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Every process of a variant records the same epoch digests."""
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        if len(trainings) < 2:
            yield skipped(
                name,
                variant.id,
                "equal epoch digests",
                "one process only: --processes 2 compares two",
            )
            continue
        expected = f"equal epoch digests in {len(trainings)} processes"
        diverged = {
            other.process: f"{other.process} diverges from {trainings[0].process} at epoch {epoch}"
            for other in trainings[1:]
            if (epoch := first_difference(trainings[0].epoch_digests, other.epoch_digests))
            is not None
        }
        if diverged:
            hint = _where(
                evidence.run.info.id, variant.id, trainings[0].process, next(iter(diverged))
            )
            yield failed(name, variant.id, expected, "; ".join(diverged.values()), hint)
        else:
            yield passed(name, variant.id, expected, trainings[0].weights_sha256[:16])


def _where(run: str, variant: str, *processes: str) -> str:
    sides = shlex.join(f"{run}:{variant}#{process}" for process in processes)
    return f"suspect the hardware, or a race; where: python -m xorbench diff {sides}"


def warm_up(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """The throw-away warm-up epochs equal the first timed ones."""
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        expected = f"the first {len(trainings[0].warmup_epoch_digests)} epochs twice the same"
        diverged = [
            f"in {training.process} they diverge at epoch {epoch}"
            for training in trainings
            if (epoch := first_difference(training.warmup_epoch_digests, training.epoch_digests))
            is not None
        ]
        if diverged:
            yield failed(name, variant.id, expected, "; ".join(diverged), _twice_hint(trainings))
        elif not trainings[0].warmup_epoch_digests:
            yield skipped(name, variant.id, expected, "this run had no warm-up")
        else:
            yield passed(name, variant.id, expected, "they are")


def _twice_hint(trainings: Sequence[TrainingRecord]) -> str:
    first, *others = (training.epoch_digests for training in trainings)
    if any(first_difference(first, other) is not None for other in others):
        return "rerun fails too, so the training is not reproducible at all: look there first"
    return "something is left over between trainings of one process"


def invariance(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """A change of one setting does to the bits what the settings table says."""
    for axis, members in edges(evidence.variants):
        yield _edge(name, axis, members, evidence)


def _edge(name: str, axis: Axis, members: list[Variant], evidence: Evidence) -> Verdict:
    subject = group_name(axis, members)
    found = settings_table.pairs(axis, members, evidence)
    expected = "; ".join(
        dict.fromkeys(
            f"{settings_table.must(p.expectation.bits)}: {p.expectation.reason}" for p in found
        )
    )
    broken = [_broken(one) for one in found if one.broken]
    if broken:
        hint = f"{axis.option} did to the bits what it must not: {axis.about}"
        return failed(name, subject, expected, some(broken), hint)
    seen = ("kept" if p.diverged is None else f"changed at epoch {p.diverged}" for p in found)
    binding = any(p.expectation.bits != "may change" for p in found)
    said = passed if binding else skipped
    return said(name, subject, expected, ", ".join(dict.fromkeys(seen)))


def _broken(one: settings_table.Pair) -> str:
    values = f"{one.axis.value(one.a)} and {one.axis.value(one.b)}"
    did = "have equal bits" if one.diverged is None else f"diverge at epoch {one.diverged}"
    return f"{values} {did}"


def parity(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """An accelerator agrees with the CPU on every test point."""
    by_id = {variant.id: variant for variant in evidence.variants}
    pairs = [
        (variant, by_id[twin.id])
        for variant in evidence.variants
        if device_type(variant.case.device) != "cpu"
        and (twin := replace(variant, case=replace(variant.case, device="cpu"))).id in by_id
    ]
    if not pairs:
        reason = "no case ran both on the CPU and on an accelerator"
        yield skipped(name, "CPU and accelerator", "equal test predictions", reason)
    for variant, twin in pairs:
        yield _agreement(name, variant.id, evidence.first(variant), evidence.first(twin))


def _agreement(name: str, variant: str, device: TrainingRecord, cpu: TrainingRecord) -> Verdict:
    points = zip(device.predictions, cpu.predictions, strict=True)
    differing = [index for index, (a, b) in enumerate(points) if a != b]
    expected = f"{cpu.test.total} test predictions equal the CPU's"
    weights = largest_difference(device.weights, cpu.weights)
    if differing:
        shown = some([str(index) for index in differing])
        actual = f"{len(differing)} differ, at points {shown}; {weights}"
        return failed(name, variant, expected, actual, "compare the two losses epoch by epoch")
    return passed(name, variant, expected, f"they do; {weights}")


def largest_difference(
    a: Mapping[str, WeightRecord] | None, b: Mapping[str, WeightRecord] | None
) -> str:
    """Where two sets of weights differ most, in words."""
    if a is None or b is None:
        return "the weights are too large to be kept"
    gaps = {
        key: float(np.max(np.abs(values_of(a[key]) - values_of(b[key])), initial=0.0)) for key in a
    }
    widest = max(gaps, key=lambda key: gaps[key])
    return f"largest weight difference {gaps[widest]:.2g} ({widest})"


def values_of(weight: WeightRecord) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The recorded values, flat, as float64."""
    little_endian = np.dtype(weight.dtype).newbyteorder("<")
    return np.frombuffer(bytes.fromhex(weight.hex), little_endian).astype(np.float64)


def arithmetic(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Each device rounds, divides, compares and keeps subnormals as IEEE 754 asks."""
    for process in evidence.run.info.processes:
        for device, found in process.golden.items():
            yield checked(name, f"{device} in {process.id}", found.arithmetic)


def universal(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Each device gives the golden digest of the universal training."""
    for process in evidence.run.info.processes:
        for device, found in process.golden.items():
            yield checked(name, f"{device} in {process.id}", found.universal)
    for variant in evidence.variants:
        for training in evidence.trainings[variant.id]:
            if training.golden:
                yield checked(name, f"{variant.id} in {training.process}", training.golden)


def checked(check: str, subject: str, facts: list[Fact]) -> Verdict:
    """Pass where every fact is its golden value; else the first that is not, and how many."""
    wrong = [fact for fact in facts if fact.expected != fact.actual]
    if not wrong:
        return passed(check, subject, "the golden values", facts[0].actual[:16])
    shown = some([f"{fact.what}: {fact.actual[:48]}" for fact in wrong], 3, "; ")
    expected = "; ".join(fact.expected[:48] for fact in wrong[:3])
    return failed(check, subject, expected, shown, GOLDEN_HINTS[check])


def probes(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Matrix units, memory and conversions of each device give the one right answer."""
    for process in evidence.run.info.processes:
        for device, found in process.golden.items():
            if found.probes:
                yield probed(name, f"{device} in {process.id}", found.probes)


def probed(check: str, subject: str, records: Sequence[ProbeRecord]) -> Verdict:
    """Pass where every result of these exact probes is right; else the first that are not."""
    wrong = [f"{fact.what}: {fact.actual}" for one in records for fact in one.wrong]
    unjudged = [f"{fact.what}: {fact.actual}" for one in records for fact in one.unjudged]
    checked, left = sum(r.checked for r in records), sum(len(r.skipped) for r in records)
    expected = "every result as integer arithmetic has it"
    done = f"{checked:,} results" + (f", {left} not available here" if left else "")
    if wrong:
        shown = some(wrong, 3, "; ")
        said = f"{len(wrong)} of {done} wrong: {shown}" if checked else shown
        return failed(check, subject, expected, said, PROBE_HINT)
    if unjudged:
        hint = "not measured on this kind of device: compare with another device of the same model"
        return inconclusive(check, subject, expected, "; ".join(unjudged[:3]), hint)
    if not checked:
        reasons = dict.fromkeys(s.partition(": ")[2] for r in records for s in r.skipped)
        return skipped(
            check, subject, expected, f"{left} not available here: {some([*reasons], 2)}"
        )
    return passed(check, subject, expected, f"{done}, all right")


PROBE_HINT: Final = (
    "there is one right answer: suspect the device, or a library that rounds; see docs/probes.md"
)
GOLDEN_HINTS: Final = {
    "arithmetic": "this device or its compiler does not follow IEEE 754: see docs/universal.md",
    "universal": "every sound machine gives this digest: suspect the hardware, or fused operations",
}


def save_and_load(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """A saved and loaded model has the same digest and the same score."""
    expected = "same digest and score after saving and loading"
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        wrong = [f"{t.process}: {flaw}" for t in trainings for flaw in _reload_flaws(t)]
        if wrong:
            hint = "what a checkpoint of this machine holds is not what was trained"
            yield failed(name, variant.id, expected, "; ".join(wrong), hint)
        else:
            yield passed(name, variant.id, expected, trainings[0].reloaded_sha256[:16])


def _reload_flaws(training: TrainingRecord) -> Iterator[str]:
    if training.epoch_digests[-1] != training.weights_sha256:
        yield "the weights changed between the last epoch and saving"
    if training.reloaded_sha256 != training.weights_sha256:
        yield "the loaded weights have another digest"
    if training.reloaded_predictions != training.predictions:
        yield "the loaded model answers otherwise"
    if training.weights and sha256_of(training.weights) != training.weights_sha256:
        yield "the recorded weights do not have the recorded digest"


def sha256_of(weights: Mapping[str, WeightRecord]) -> str:
    """The digest of recorded weights (workload.md §4), made without torch."""
    return digest.sha256(
        (name, w.dtype, w.shape, bytes.fromhex(w.hex)) for name, w in weights.items()
    )


def memory(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """No process grows by more than 256 MiB once its trainings stand open, no training on a device.

    A device counts its memory to the byte, so what an epoch leaves behind there is seen early.
    """
    trained = {training.process for training in evidence.run.trainings}
    for process in evidence.run.info.processes:
        if process.opened_rss_bytes is None or process.peak_rss_bytes is None:
            continue
        if process.id not in trained:
            continue
        grown_mib = (process.peak_rss_bytes - process.opened_rss_bytes) / 2**20
        subject = f"process {process.id}"
        expected, actual = f"at most {GROWTH_MIB} MiB more", f"{grown_mib:.0f} MiB more"
        if grown_mib > GROWTH_MIB:
            yield failed(name, subject, expected, actual, GROWTH_HINT)
        else:
            yield passed(name, subject, expected, actual)
    for variant in evidence.variants:
        yield from _device_memory(name, variant, evidence.trainings[variant.id])


def _device_memory(
    name: str, variant: Variant, trainings: list[TrainingRecord]
) -> Iterator[Verdict]:
    """What the epochs after the first left on the device; nothing where it does not tell."""
    grown = [
        (training.accelerator_grown_bytes, training.process)
        for training in trainings
        if training.accelerator_grown_bytes is not None
    ]
    if grown:
        expected = f"at most {DEVICE_GROWTH_KIB} KiB more on {variant.case.device}"
        most, process = max(grown)
        actual = f"{process}: {most:,} bytes more after the last epoch than after the first"
        if most > DEVICE_GROWTH_KIB * 2**10:
            yield failed(name, variant.id, expected, actual, GROWTH_HINT)
        else:
            yield passed(name, variant.id, expected, actual)


GROWTH_HINT: Final = (
    "something is kept from epoch to epoch: a longer training will run out of memory"
)
GROWTH_MIB: Final = 256
DEVICE_GROWTH_KIB: Final = 64

CHECKS: Final[dict[str, Callable[[str, Evidence], Iterable[Verdict]]]] = {
    "completion": completion,
    "accuracy": accuracy,
    "inputs": inputs,
    "golden inputs": witnesses.golden_inputs,
    "accuracy of arithmetic": witnesses.accuracy_of_arithmetic,
    "clock": witnesses.clock,
    "rerun": rerun,
    "warm-up": warm_up,
    "invariance": invariance,
    "parity": parity,
    "arithmetic": arithmetic,
    "universal": universal,
    "probes": probes,
    "save and load": save_and_load,
    "memory": memory,
}


def exit_code(
    verdicts: Iterable[Verdict], *, interrupted: bool = False, device_missing: bool = False
) -> int:
    """The first that applies: interrupted, device missing, failed, inconclusive, passed."""
    outcomes: set[Outcome] = {verdict.outcome for verdict in verdicts}
    rules = (
        (interrupted, INTERRUPTED),
        (device_missing, DEVICE_MISSING),
        ("fail" in outcomes, CHECK_FAILED),
        ("inconclusive" in outcomes or "pass" not in outcomes, INCONCLUSIVE),
    )
    return next((code for applies, code in rules if applies), PASSED)


def summary(verdicts: Iterable[Verdict]) -> str:
    """The verdicts counted in one line."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts[o]} {word}" for o, word in _WORDS.items() if counts[o]]
    return f"checks: {', '.join(parts) or 'nothing to judge'}"


_WORDS: Final[dict[Outcome, str]] = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "skipped": "skipped",
}
