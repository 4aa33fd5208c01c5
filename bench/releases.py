"""Which PyTorch release changed which results? Compares each release with the previous one.

    python bench/releases.py run --releases 2.6,2.9 --environments FOLDER    # can be repeated
    python bench/releases.py page

Each release is installed with pip in an environment of its own, which is removed after the
comparison with the next release, so there are at most two (a CUDA build takes 6 GB). An environment
also sees the packages of this interpreter. Every result is stored when it is known, so a stopped
command continues with the first result that is missing. `page` writes docs/releases.md from the
stored results.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from xorbench.report.text import escape

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = ROOT / "results" / "reference" / "releases"
PAGE: Final = ROOT / "docs" / "releases.md"
SCRIPT: Final = ROOT / "bench" / "release_trainings.py"
RELEASES: Final = tuple(f"2.{minor}" for minor in range(6, 16))
TRAININGS: Final = ("xor", "gpt", "cnn", "lstm", "resnet18", "bert", "llama", "vae")
CASES: Final = (
    *TRAININGS,
    *(f"{name}+bfloat16" for name in TRAININGS),
    "xor+compile",
    "gpt+compile",
)
RESUMED: Final = TRAININGS
SUITE: Final = tuple(
    f"tests/test_{name}.py"
    for name in (
        "engines", "float64", "limits", "origins", "recorder_digest", "reference", "sources",
    )
)  # fmt: skip
ENGINES: Final = ("loader", "fetch", "tensor", "replay", "compile", "universal")
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1"}  # with several, some operators vary between runs
BUILD: Final = """
import torch
from xorbench.recorder.environment import processor
print(torch.__version__, processor(), torch.backends.cpu.get_cpu_capability(), sep="\\n")
"""
# One row per question about a pair of releases, with its options of `check --against`.
QUESTIONS: Final = {"bits": ("--bits-only", "--processes", "2")}
TRAINED: Final = ("build", "digests")
TESTED: Final = ("canary", "engines", "suite")
COMPARED: Final = ("previous", *(f"trainings {name}" for name in QUESTIONS), "checkpoints bits")
CASE_PARTS: Final = ("digests", *(f"trainings {name}" for name in QUESTIONS))

Values = dict[str, Any]
Pair = tuple["Release", "Release"]
MakeCases = Callable[[Sequence[str]], Iterable[dict[str, Any]]]


@dataclass(slots=True)
class Release:
    """The results of one release; each is stored when it is known."""

    name: str
    values: Values = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> "Release":
        """The stored results."""
        path = DATA / f"{name}.json"
        return cls(name, json.loads(path.read_text()) if path.exists() else {})

    def add(self, part: str, make: Callable[[], Any]) -> None:
        """Make and store a result that is missing, with its duration."""
        if part in self.values:
            return
        began = time.monotonic()
        self.values[part] = make()
        self._store(part, began)

    def add_cases(self, part: str, cases: Sequence[str], make: MakeCases) -> None:
        """Make and store the results of the cases that are missing, group by group."""
        known = self.values.setdefault(part, {})
        missing = [case for case in cases if case not in known]
        began = time.monotonic()
        for results in make(missing) if missing else ():
            known |= results
            self._store(part, began)
            began = time.monotonic()

    def _store(self, part: str, began: float) -> None:
        seconds = self.values.setdefault("seconds", {})
        seconds[part] = seconds.get(part, 0) + round(time.monotonic() - began)
        DATA.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.values, indent=1)
        (DATA / f"{self.name}.json").write_text(f"{text}\n")
        print(f"{self.name} {part}: {seconds[part]} s", flush=True)

    def require_previous(self, name: str) -> None:
        """Forget the comparisons with another release."""
        if self.values.get("previous", name) != name:
            for part in COMPARED:
                self.values.pop(part, None)

    def lacks(self, parts: Iterable[str], cases: Sequence[str] = ()) -> bool:
        """Whether a result is missing, or of a part with cases the result of one."""
        return any(
            part not in self.values
            or (part in CASE_PARTS and not self.values[part].keys() >= set(cases))
            for part in parts
        )


# Environments


def environment(folder: Path, release: str) -> Path:
    """The interpreter of an environment with the latest patch of a release."""
    place = folder / release
    python, complete = place / "bin" / "python", place / "complete"
    if not complete.exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--no-cache-dir"]
        # only from the index, so that every release is the same kind of build
        variables = {**os.environ, "PIP_FIND_LINKS": ""}
        subprocess.run([*pip, f"torch=={release}.*"], check=True, env=variables)
        complete.touch()
    (packages,) = place.glob("lib/python*/site-packages")
    own = sysconfig.get_paths()["purelib"]
    (packages / "zz_other_packages.pth").write_text(f"import site; site.addsitedir({own!r})\n")
    return python


def called(words: Sequence[object], folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with one thread and a cache of compiled code."""
    variables = {**os.environ, **ONE_THREAD, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    return subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


# One release


@dataclass(frozen=True, slots=True)
class Installed:
    """A release in its environment."""

    release: Release
    python: Path

    @property
    def cache(self) -> Path:
        """The folder of compiled code."""
        return self.python.parents[1] / "inductor"

    def train(self, cases: Sequence[str]) -> None:
        """Add the digests of the trainings."""
        self.release.add("build", self.build)
        self.release.add_cases("digests", cases, lambda missing: [self.digests(missing)])

    def test(self) -> None:
        """Add the results of xorbench's own trainings and tests."""
        self.release.add("canary", self.canary)
        self.release.add("engines", self.engines)
        self.release.add("suite", self.suite)

    def call(self, *words: object, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Call its interpreter."""
        return called([self.python, *words], folder, self.cache)

    def build(self) -> Values:
        """The version, the processor and the date."""
        version, processor, capability = self.call("-c", BUILD).stdout.splitlines()
        return {
            "version": version,
            "python": platform.python_version(),
            "processor": f"{processor}, {os.cpu_count()} cores, {capability}",
            "date": datetime.now(UTC).date().isoformat(),
        }

    def digests(self, cases: Sequence[str], *options: object) -> dict[str, str]:
        """The digest of each training; a training that fails has none."""
        known: dict[str, str] = {}
        while len(known) < len(cases):
            left = [case for case in cases if case not in known]
            done = self.call(SCRIPT, *left, *options)
            known |= dict(line.split() for line in done.stdout.splitlines())
            if done.returncode:  # the first case without a digest failed
                known |= {next(case for case in left if case not in known): ""}
        return known

    def canary(self) -> Values:
        """The answer of `canary`."""
        with tempfile.TemporaryDirectory() as folder:
            words = ("-m", "xorbench", "canary", "--devices", "cpu", "--json", "--out", folder)
            answer = json.loads(self.call(*words).stdout)
        failed = [row["subject"] for row in answer["verdicts"] if row["outcome"] == "fail"]
        return {"exit_code": answer["exit_code"], "failed": failed}

    def engines(self) -> dict[str, str]:
        """The digest of the trained weights, per engine of `run`."""
        options = ("--quick", "--epochs", "2", "--processes", "1", "--no-phases")
        options += ("--drop-last", "true", "--pin-memory", "false", "--engines", ",".join(ENGINES))
        with tempfile.TemporaryDirectory() as folder:
            self.call("-m", "xorbench", "run", *options, "--out", folder)
            table = Path(folder) / "latest" / "determinism.csv"
            rows = list(csv.DictReader(table.read_text().splitlines()))
        return {row["engine"]: row["weights sha256"][:16] for row in rows}

    def suite(self) -> Values:
        """The fast part of the tests that depends most on PyTorch."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "junit.xml"
            options = ("-q", "-p", "no:cacheprovider", "-m", "not trains", f"--junitxml={report}")
            self.call("-m", "pytest", *options, *SUITE)
            cases = list(ET.parse(report).iter("testcase"))
        failed = [
            f"{case.get('classname')}.{case.get('name')}"
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        ]
        return {"tests": len(cases), "failed": failed}


# Two releases


@dataclass(frozen=True, slots=True)
class Compared:
    """A release and the previous one, each in its environment."""

    previous: Installed
    tested: Installed

    def make(self, cases: Sequence[str]) -> None:
        """Add the comparisons with the previous release."""
        release = self.tested.release
        release.add("previous", lambda: self.previous.release.name)
        for question, options in QUESTIONS.items():
            make = partial(self.trainings, options)
            release.add_cases(f"trainings {question}", cases, make)
        make = partial(self.checkpoints, QUESTIONS["bits"])
        release.add_cases("checkpoints bits", [case for case in cases if case in RESUMED], make)

    def trainings(
        self, options: Sequence[str], cases: Sequence[str]
    ) -> Iterator[dict[str, Values]]:
        """The answer of `check --against` for each training."""
        digests = [side.release.values["digests"] for side in (self.previous, self.tested)]
        yield from self.answers(cases, digests, options, ())

    def checkpoints(
        self, options: Sequence[str], cases: Sequence[str]
    ) -> Iterator[dict[str, Values]]:
        """The same for trainings that both resume from a checkpoint of the previous release."""
        with tempfile.TemporaryDirectory() as folder:
            self.previous.digests(cases, "--save", folder)
            resume = ("--resume", folder)
            digests = [side.digests(cases, *resume) for side in (self.previous, self.tested)]
            yield from self.answers(cases, digests, options, resume)

    def answers(
        self,
        cases: Sequence[str],
        digests: Sequence[dict[str, str]],
        options: Sequence[str],
        words: Sequence[str],
    ) -> Iterator[dict[str, Values]]:
        """Check cases of equal digests together, as one command, and the others one by one."""
        a, b = digests
        ran = [case for case in cases if a.get(case) and b.get(case)]
        equal = [case for case in ran if a[case] == b[case]]
        groups = [equal] * bool(equal)
        groups += [[case] for case in ran if case not in equal]
        yield {case: {"outcome": "failed"} for case in cases if case not in ran}
        while groups:
            group = groups.pop(0)
            answer = self.answer(group, options, words)
            if answer["outcome"] != "pass" and len(group) > 1:
                groups += [[case] for case in group]
            else:
                yield dict.fromkeys(group, answer)

    def answer(self, cases: Sequence[str], options: Sequence[str], words: Sequence[str]) -> Values:
        """The answer of one check."""
        a, b = (
            " ".join(map(str, (side.python, SCRIPT, *cases, *words)))
            for side in (self.previous, self.tested)
        )
        with tempfile.TemporaryDirectory() as folder:
            check = (sys.executable, "-m", "xorbench", "check", "--json", *options)
            done = called(
                [*check, "--against", a, "--", *b.split()], Path(folder), self.tested.cache
            )
        print(" ".join(cases), "exit code", done.returncode, flush=True)
        result: Values = {}
        with suppress(ValueError):
            result = json.loads(done.stdout)
        if not result:
            return {"outcome": "failed", "sentence": done.stderr.strip().splitlines()[-1]}
        kept = {name: result[name] for name in ("outcome", "sentence", "component", "step")}
        details = {name: result["details"].get(name) for name in ("detailed recording", "elements")}
        return {name: value for name, value in (kept | details).items() if value is not None}


def run(names: Sequence[str], folder: Path, cases: Sequence[str]) -> None:
    """Test each release, and compare it with the one before it in the list."""
    releases = [Release.read(name) for name in names]
    for before, release in zip([None, *releases], releases, strict=False):
        if before is not None:
            release.require_previous(before.name)
        if release.lacks(TRAINED if before is None else (*TRAINED, *COMPARED), cases):
            tested = Installed(release, environment(folder, release.name))
            tested.train(cases)
            if before is not None:
                previous = Installed(before, environment(folder, before.name))
                Compared(previous, tested).make(cases)
        if before is not None:
            finish(before, folder)
    finish(releases[-1], folder)


def finish(release: Release, folder: Path) -> None:
    """Add the other results of a release, and remove its environment."""
    if release.lacks(TESTED):
        Installed(release, environment(folder, release.name)).test()
    shutil.rmtree(folder / release.name, ignore_errors=True)


# The page


def read() -> list[Release]:
    """The stored releases, oldest first."""
    names = sorted((path.stem for path in DATA.glob("*.json")), key=lambda n: int(n.split(".")[1]))
    return [Release.read(name) for name in names]


def page(releases: Sequence[Release]) -> str:
    """The text of docs/releases.md."""
    later = list(pairwise(releases))
    parts = [
        HEAD.format(**releases[-1].values["build"]),
        "## Trainings",
        TRAININGS_TEXT,
        _matrix(later, "trainings bits", CASES),
        "## Resumed from a checkpoint of the previous release",
        RESUMED_TEXT,
        _matrix(later, "checkpoints bits", RESUMED),
        "## First differences",
        DIFFERENCES_TEXT,
        _differences(later),
        EXPLANATIONS.read_text().strip(),
        "## Each release on its own",
        OWN_TEXT,
        _own(releases),
    ]
    return "\n\n".join(parts) + "\n"


HEAD: Final = """# PyTorch releases

Which release changed which results? `python bench/releases.py run` trains small models on the CPU
under each release and compares it with the previous one in the table by `check --against
--bits-only`. `python bench/releases.py page` writes this page from
[the stored results](../results/reference/releases/).

{processor}, Python {python}, one thread, {date}. Results on other processors can differ. For your
own training: [compare two commands][against].

[against]: your-training.md#did-my-change-alter-the-results-or-the-speed"""
TRAININGS_TEXT: Final = (
    "*Identical* and *differs* are answers of `check`. A training that `check` has not compared yet"
    " has the digest of its losses and final weights."
)
RESUMED_TEXT: Final = (
    "Both releases resume the training from a checkpoint that the previous release saved."
)
DIFFERENCES_TEXT: Final = (
    "The first operator whose result differs although its inputs are identical, or the first"
    " recorded value that differs."
)
OWN_TEXT: Final = (
    "The fast tests that depend most on PyTorch, `canary`, and the weights of the XOR training of"
    " each engine (first digits of their digest)."
)
NOT_TESTED: Final = "not tested"
EXPLANATIONS: Final = DATA / "explanations.md"  # by hand


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _step(before: Release, release: Release) -> str:
    return f"{before.name} → {release.name}"


def _matrix(later: Sequence[Pair], part: str, cases: Sequence[str]) -> str:
    rows = [[_case_text(case), *(_cell(*pair, part, case) for pair in later)] for case in cases]
    return _table(["training", *(_step(*pair) for pair in later)], rows)


def _case_text(case: str) -> str:
    return case.replace("+compile", ", torch.compile").replace("+", ", ")


def _cell(before: Release, release: Release, part: str, case: str) -> str:
    """The answer of the check, or without it whether the digests of the trainings are equal."""
    answer = release.values.get(part, {}).get(case)
    if answer is None:
        a, b = (each.values.get("digests", {}).get(case) for each in (before, release))
        if not part.startswith("trainings") or not (a and b):
            return NOT_TESTED
        return "equal digest" if a == b else "different digest"
    names = {"pass": "identical", "fail": f"differs in step {answer.get('step')}"}
    return names.get(answer["outcome"], answer["outcome"])


def _differences(later: Sequence[Pair]) -> str:
    places: dict[tuple[str, str], list[str]] = {}
    for before, release in later:
        for part in ("trainings bits", "checkpoints bits"):
            for case, answer in release.values.get(part, {}).items():
                if answer["outcome"] == "fail":
                    cases = places.setdefault((_step(before, release), _place(answer)), [])
                    cases += [_case_text(case)] * (_case_text(case) not in cases)
    rows = [[step, escape(place), "; ".join(cases)] for (step, place), cases in places.items()]
    return _table(["releases", "first difference", "trainings"], rows)


def _place(answer: Values) -> str:
    """The operator and its line, or the first recorded difference."""
    detailed: str | None = answer.get("detailed recording")
    if detailed is not None:
        return detailed.partition(": ")[2]
    return str(answer["sentence"]).partition(" first differs from A in ")[2] or answer["sentence"]


def _own(releases: Sequence[Release]) -> str:
    rows = []
    for release in releases:
        values = release.values
        engines = values.get("engines", {})
        rows.append(
            [
                values["build"]["version"],
                _suite_text(values.get("suite")),
                _canary_text(values.get("canary")),
                *(f"`{engines[name][:8]}`" if name in engines else NOT_TESTED for name in ENGINES),
                f"{sum(values['seconds'].values()) / 60:.0f} min",
            ]
        )
    return _table(["build", "tests", "canary", *ENGINES, "duration"], rows)


def _suite_text(suite: Values | None) -> str:
    if suite is None:
        return NOT_TESTED
    passed = suite["tests"] - len(suite["failed"])
    return f"{passed} of {suite['tests']} passed"


def _canary_text(canary: Values | None) -> str:
    if canary is None:
        return NOT_TESTED
    return "pass" if canary["exit_code"] == 0 else f"exit code {canary['exit_code']}"


def main() -> None:
    """Test releases, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="action", required=True)
    running = commands.add_parser("run")
    running.add_argument("--releases", default=",".join(RELEASES))
    running.add_argument("--environments", type=Path, default=Path(".releases"))
    running.add_argument("--cases", default=",".join(CASES))
    commands.add_parser("page")
    options = parser.parse_args()
    if options.action == "page":
        PAGE.write_text(page(read()))
    else:
        run(
            options.releases.split(","),
            options.environments.resolve(),
            options.cases.split(","),
        )


if __name__ == "__main__":
    main()
