"""The golden values, and the check of any backend against them.

``python -m xorbench.machine.universal.golden --write`` writes ``golden.json`` with the NumPy
oracle, after checking the oracle against the specification's own values. ``--check`` compares every
backend with the file.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadFile, BadOption, XorbenchError
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.probe import GROUPS, expected, probe, sha256
from xorbench.machine.universal.spec import UniversalRecipe
from xorbench.machine.universal.trained import Evaluate, Keep, Train

SCHEMA_VERSION: Final = 1
PATH: Final = Path(__file__).with_name("golden.json")
COMMAND: Final = "python -m xorbench.machine.universal.golden --write"


@dataclass(frozen=True)
class Combined:
    """The combined result of seeds 0 to ``seeds - 1`` of the default recipe."""

    seeds: int
    sha256: str
    all_correct: int


class Specified(NamedTuple):
    """A value of the specification: the first digits of the digest of one training."""

    seed: int
    batch_size: int
    drop_last: bool
    begins: str
    correct: int


SPECIFIED: Final = (
    Specified(0, 128, True, "92d7d246542699294b2003719e235f6d", 500),
    Specified(1, 128, True, "e193fec4ce575befd876aeb96433aa0b", 500),
    Specified(2, 128, True, "c2f2e19e8d40525d71d525ef7ec5e2d7", 500),
    Specified(0, 128, False, "673f5253a9a5fcdd302a6f43941bf644", 500),
    Specified(0, 64, True, "c722253db714e07c5077a49d5d3b5538", 500),
    Specified(0, 256, True, "a98fb71ef9d48c415c664e1ea1d713b7", 499),
)
SPECIFIED_COMBINED: Final = Combined(
    256, "b8370adcd358944fdab0b6ddc2cc86d5878839e0c99d51dbf02c96bc652c4cef", 250
)

PLAN: Final = (
    (128, True, 32),
    *((batch_size, drop_last, 8)
      for batch_size in (32, 64, 125, 128, 256, 500)
      for drop_last in (True, False)
      if (batch_size, drop_last) != (128, True)),
)  # fmt: skip
"""The trainings of ``--write``: batch size, drop_last, and the number of seeds from 0."""


@dataclass(frozen=True)
class GoldenAnswer:
    """The golden result of one training."""

    seed: int
    sha256: str
    correct: int


@dataclass(frozen=True)
class GoldenValues:
    """The content of the golden file.

    Attributes:
        answers: the results of the trainings by recipe, in the order of the file.
        combined: one digest over many seeds of the default recipe.
        epoch_digests: the digest after each epoch of seed 0 with the default recipe, [epochs].
        probes: each group's digest over its result bytes.
    """

    answers: dict[UniversalRecipe, tuple[GoldenAnswer, ...]]
    combined: Combined
    epoch_digests: tuple[str, ...]
    probes: dict[str, str]

    def answer(self, recipe: UniversalRecipe, seed: int) -> GoldenAnswer | None:
        """The golden result of one training, or None if the file has none."""
        answers = self.answers.get(recipe, ())
        return next((answer for answer in answers if answer.seed == seed), None)


@dataclass(frozen=True)
class Checked:
    """A value compared with its golden value; ``what`` is its name."""

    what: str
    expected: str
    actual: str

    @property
    def passed(self) -> bool:
        """Whether the values are equal."""
        return self.expected == self.actual


# ------------------------------------------------------------------------------------ reading


@lru_cache(maxsize=1)
def load() -> GoldenValues:
    """Read the golden file of this package.

    Raises:
        BadFile: the file is missing or has a different version.
    """
    hint = f"create it with {COMMAND}"
    try:
        data = json.loads(PATH.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(f"{PATH.name}: cannot be read: {error}", hint) from error
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadFile(f"{PATH.name}: schema_version must be {SCHEMA_VERSION}, got {version}", hint)
    return _parsed(data)


def _parsed(data: dict[str, Any]) -> GoldenValues:
    base = UniversalRecipe(**data["recipe"])
    answers: dict[UniversalRecipe, tuple[GoldenAnswer, ...]] = {}
    for row in data["trainings"]:
        recipe = replace(base, batch_size=row["batch_size"], drop_last=row["drop_last"])
        answer = GoldenAnswer(row["seed"], row["sha256"], row["correct"])
        answers[recipe] = (*answers.get(recipe, ()), answer)
    return GoldenValues(
        answers=answers,
        combined=Combined(**data["combined"]),
        epoch_digests=tuple(data["epoch_digests"]),
        probes=dict(data["probes"]),
    )


# ----------------------------------------------------------------------------------- checking


def check_training(train: Train, recipe: UniversalRecipe, seeds: int) -> Iterator[Checked]:
    """Train the first ``seeds`` seeds of a golden recipe, and check each digest and score."""
    answers = load().answers[recipe][:seeds]
    trained = train(recipe, [answer.seed for answer in answers])
    for answer, digest, correct in zip(answers, trained.digests(), trained.correct, strict=True):
        yield Checked(
            f"batch {recipe.batch_size} drop_last {recipe.drop_last} seed {answer.seed}",
            f"{answer.sha256} {answer.correct}/{recipe.test_size}",
            f"{digest} {correct}/{trained.total}",
        )


def check_seed_0(train: Train) -> list[Checked]:
    """Train seed 0 of the default recipe, and check digest, epoch digests and score."""
    trained = train(UniversalRecipe(), [0], keep=Keep.EPOCHS)
    answer, total = load().answers[UniversalRecipe()][0], trained.total
    return [
        Checked("digest of seed 0", answer.sha256, trained.digests()[0]),
        compare_epoch_digests(trained.epoch_digests(), load().epoch_digests),
        Checked("score", f"{total}/{total}", f"{trained.correct[0]}/{total}"),
    ]


def check_epoch_digests(train: Train) -> Checked:
    """Train seed 0, and check the digest of each epoch."""
    trained = train(UniversalRecipe(), [0], keep=Keep.EPOCHS)
    return compare_epoch_digests(trained.epoch_digests(), load().epoch_digests)


def compare_epoch_digests(actual: Sequence[str], golden: Sequence[str]) -> Checked:
    """Compare epoch digests with the golden ones; the result names the first difference."""
    pairs = zip_longest(golden, actual, fillvalue="no such epoch")
    for epoch, (golden_digest, digest) in enumerate(pairs):
        if golden_digest != digest:
            return Checked(f"epoch digests of seed 0, epoch {epoch}", golden_digest, digest)
    return Checked("epoch digests of seed 0", f"{len(golden)} epochs", f"{len(actual)} epochs")


def check_combined(train: Train) -> Checked:
    """Train the seeds of the combined digest, and check it."""
    golden = load().combined
    expected_text, actual = (
        f"{combined.sha256} {combined.all_correct} all correct"
        for combined in (golden, _combined(train, golden.seeds))
    )
    return Checked(f"seeds 0..{golden.seeds - 1} combined", expected_text, actual)


def check_probe(evaluate: Evaluate) -> Iterator[Checked]:
    """Probe the arithmetic; the check of a failed group names its first wrong case."""
    for probed in probe(evaluate):
        case = f", {probed.misses[0]}" if probed.misses else ""
        yield Checked(f"probe {probed.group}{case}", load().probes[probed.group], probed.sha256)


def check(train: Train, evaluate: Evaluate) -> Iterator[Checked]:
    """Compare one backend with all values in the file, cheapest first."""
    yield from check_probe(evaluate)
    yield check_epoch_digests(train)
    for recipe, answers in load().answers.items():
        yield from check_training(train, recipe, len(answers))
    yield check_combined(train)


# ------------------------------------------------------------------------------------ writing


def make() -> dict[str, Any]:
    """Compute the content of the file with the NumPy oracle, after checking the specification.

    Raises:
        XorbenchError: the oracle differs from the specification.
    """
    train = BACKENDS["numpy"].load().train
    for checked in check_specified(train):
        if not checked.passed:
            raise XorbenchError(
                f"{checked.what}: specified {checked.expected}, got {checked.actual}"
            )
    base = UniversalRecipe()
    return {
        "schema_version": SCHEMA_VERSION,
        "command": COMMAND,
        "made_with": {"backend": "numpy", "numpy": np.__version__},
        "recipe": asdict(base),
        "trainings": [row for part in PLAN for row in _rows(train, base, *part)],
        "combined": asdict(_combined(train, SPECIFIED_COMBINED.seeds)),
        "epoch_digests": train(base, [0], keep=Keep.EPOCHS).epoch_digests(),
        "probes": {name: sha256(expected(cases)) for name, cases in GROUPS.items()},
    }


def check_specified(train: Train) -> Iterator[Checked]:
    """Compare a backend with the table of the specification, without the file."""
    for row in SPECIFIED:
        recipe = UniversalRecipe(batch_size=row.batch_size, drop_last=row.drop_last)
        trained = train(recipe, [row.seed])
        yield Checked(
            f"batch {row.batch_size} drop_last {row.drop_last} seed {row.seed}",
            f"{row.begins} {row.correct}",
            f"{trained.digests()[0][: len(row.begins)]} {trained.correct[0]}",
        )
    specified = SPECIFIED_COMBINED
    combined = _combined(train, specified.seeds)
    yield Checked(f"seeds 0..{specified.seeds - 1} combined", str(specified), str(combined))


def _rows(
    train: Train, base: UniversalRecipe, batch_size: int, drop_last: bool, seeds: int
) -> Iterator[dict[str, Any]]:
    trained = train(replace(base, batch_size=batch_size, drop_last=drop_last), range(seeds))
    results = zip(trained.digests(), trained.correct.tolist(), strict=True)
    for seed, (digest, correct) in enumerate(results):
        row = {"batch_size": batch_size, "drop_last": drop_last, "seed": seed}
        yield {**row, "sha256": digest, "correct": correct}


def to_text(data: dict[str, Any]) -> str:
    """The file's text: JSON with one list member per line."""
    parts = (f"{json.dumps(name)}: {_member(value)}" for name, value in data.items())
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _member(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f" {json.dumps(member)}" for member in value) + "\n]"


def _combined(train: Train, seeds: int) -> Combined:
    trained = train(UniversalRecipe(), range(seeds))
    return Combined(seeds, trained.combined_sha256(), trained.all_correct())


# ------------------------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, or compare backends with it; return the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND.removesuffix(" --write"), description=__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--write", action="store_true", help="write the file with the NumPy oracle")
    task.add_argument("--check", action="store_true", help="compare the backends with golden.json")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="default: %(default)s")
    parser.add_argument(
        "--device", default="cpu", help="device of the torch backend (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.write:
        PATH.write_text(to_text(make()), encoding="utf-8")
        return PASSED
    try:
        return _check_all(options.backends.split(","), options.device)
    except XorbenchError as error:
        sys.stderr.write(f"xorbench: {error.message}\nhint: {error.hint}\n")
        return error.exit_code


def _check_all(names: Iterable[str], device: str) -> int:
    outcomes = []
    for name in names:
        if name not in BACKENDS:
            raise BadOption(f"--backends: no backend {name}", hint=f"one of {', '.join(BACKENDS)}")
        if reason := BACKENDS[name].missing():
            sys.stdout.write(f"skip {name}: {reason}\n")
            continue
        backend = BACKENDS[name].load(_device_of(name, device))
        outcomes += [_print_result(name, row) for row in check(backend.train, backend.evaluate)]
    if not outcomes:
        return INCONCLUSIVE
    return PASSED if all(outcomes) else CHECK_FAILED


def _device_of(name: str, device: str) -> str:
    """The device of a backend: Triton's kernels need a GPU unless they are interpreted."""
    if name == "triton" and device == "cpu" and not os.environ.get("TRITON_INTERPRET"):
        return "cuda"
    return device if name in ("torch", "triton") else "cpu"


def _print_result(name: str, checked: Checked) -> bool:
    difference = "" if checked.passed else f": expected {checked.expected}, got {checked.actual}"
    sys.stdout.write(f"{'pass' if checked.passed else 'FAIL'} {name} {checked.what}{difference}\n")
    return checked.passed


if __name__ == "__main__":
    sys.exit(main())
