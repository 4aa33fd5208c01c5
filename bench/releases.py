"""Which PyTorch release changed which results? Compares each release with the previous one.

    python bench/releases.py run --releases 2.6,2.9 --environments FOLDER    # can be repeated
    python bench/releases.py page

Each release is installed with pip in an environment of its own, which is removed after the
comparison with the next release, so there are at most two (a CUDA build takes 6 GB). An environment
also sees the packages of this interpreter. Every result is stored when it is known, so a stopped
command continues with the first result that is missing, and installs only a release that lacks one.
`page` writes docs/releases.md and the table of docs/defects.md from the stored results: the newest
release, the one that it was compared with, and so on.
"""

import argparse
import csv
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from xorbench.report.text import escape

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = ROOT / "results" / "reference" / "releases"
PAGE: Final = ROOT / "docs" / "releases.md"
DEFECTS: Final = ROOT / "docs" / "defects.md"
EXPLANATIONS: Final = DATA / "explanations.md"  # by hand
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
JUDGED: Final = {"0": "gpt", "4": "cnn", "8": "gpt+bfloat16", "12": "cnn+bfloat16"}  # first steps
RANDOM: Final = re.compile(r"result of aten\.\w*(bernoulli|rand|normal|dropout)|random draw")
GENERATED: Final = re.compile(r"at c\w{51}\.py:\d+")  # by Inductor
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
OUTPUTS: Final = """
import contextlib, io, json, sys
for script in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            exec(script, {})
        except Exception as error:
            print(type(error).__name__)
    print(json.dumps(output.getvalue().strip()))
"""
BITS: Final = ("--bits-only", "--processes", "2")
ROUNDING: Final = ("--up-to-rounding",)  # only where the bits differ
FAILED: Final = "failed: "
COMPARED: Final = (
    "previous",
    *(
        f"{kind} {question}"
        for kind in ("trainings", "checkpoints")
        for question in ("bits", "rounding")
    ),
)

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

    @property
    def version(self) -> str:
        """The version without the kind of build."""
        return str(self.values["build"]["version"]).partition("+")[0]

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

    def rounded(self, kind: str, cases: Sequence[str]) -> list[str]:
        """The cases that differ from the previous release, except first in a random draw."""
        answers = {case: self.values[f"{kind} bits"][case] for case in cases}
        failed = [case for case, answer in answers.items() if answer["outcome"] == "fail"]
        return [case for case in failed if not RANDOM.search(_place(answers[case]))]

    def require_previous(self, name: str) -> None:
        """Forget the comparisons with another release."""
        if self.values.get("previous", name) != name:
            for part in COMPARED:
                self.values.pop(part, None)


# Environments


def environment(folder: Path, release: str) -> Path:
    """The interpreter of an environment with the latest patch of a release."""
    place = folder / release
    python, complete = place / "bin" / "python", place / "complete"
    if not complete.exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
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
    folder: Path  # of the environments

    @property
    def python(self) -> Path:
        """Its interpreter; the first use installs the release."""
        return environment(self.folder, self.release.name)

    @property
    def cache(self) -> Path:
        """The folder of compiled code."""
        return self.folder / self.release.name / "inductor"

    def train(self, cases: Sequence[str]) -> None:
        """Add the digests of the trainings."""
        self.release.add("build", self.build)
        self.release.add_cases("digests", cases, lambda missing: [self.digests(missing)])

    def test(self) -> None:
        """Add the results of scripts, and of xorbench's own trainings and tests."""
        for part, path in (("defects", DEFECTS), ("explanations", EXPLANATIONS)):
            outputs = partial(self.outputs, scripts(path))
            self.release.add_cases(part, [*scripts(path)], outputs)
        self.release.add("operators", self.operators)
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
        """The digest of each training, or the last line of its error."""
        known: dict[str, str] = {}
        while len(known) < len(cases):
            left = [case for case in cases if case not in known]
            done = self.call(SCRIPT, *left, *options)
            known |= dict(line.split() for line in done.stdout.splitlines())
            if done.returncode:  # the first case without a digest failed
                reason = FAILED + done.stderr.strip().rpartition("\n")[2]
                known |= {next(case for case in left if case not in known): reason}
        return known

    def outputs(self, programs: dict[str, str], titles: Sequence[str]) -> Iterator[dict[str, str]]:
        """The output of each script."""
        done = self.call("-c", OUTPUTS, *(programs[title] for title in titles))
        lines = map(json.loads, done.stdout.splitlines())
        yield dict(zip(titles, lines, strict=True))

    def operators(self) -> Values:
        """The answer of `check --operators` for the first step of some trainings."""
        steps, cases = ",".join(JUDGED), JUDGED.values()
        result = self.checked("--operators", steps, "--", self.python, SCRIPT, *cases)
        kinds = result.get("kinds", ())
        wrong = sorted({kind["operator"] for kind in kinds if kind["result"] == "wrong"})
        return {"sentence": result["sentence"], "kinds": len(kinds), "wrong": wrong}

    def checked(self, *options: object) -> Values:
        """The answer of a check in an empty folder, run by this interpreter."""
        with tempfile.TemporaryDirectory() as folder:
            check = (sys.executable, "-m", "xorbench", "check", "--json", *options)
            done = called(check, Path(folder), self.cache)
        if not done.stdout:
            return {"outcome": "failed", "sentence": done.stderr.strip().rpartition("\n")[2]}
        answer: Values = json.loads(done.stdout)
        return answer

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
        resumed = [case for case in cases if case in RESUMED]
        for kind, own in (("trainings", cases), ("checkpoints", resumed)):
            release.add_cases(f"{kind} bits", own, partial(self.bits, kind))
            release.add_cases(
                f"{kind} rounding", release.rounded(kind, own), partial(self.rounding, kind)
            )

    @contextmanager
    def start(self, kind: str, cases: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The options of the trainings; `checkpoints` are saved by the previous release."""
        with tempfile.TemporaryDirectory() as folder:
            if kind == "checkpoints":
                self.previous.digests(cases, "--save", folder)
            yield ("--resume", folder) if kind == "checkpoints" else ()

    def rounding(self, kind: str, cases: Sequence[str]) -> Iterator[dict[str, Values]]:
        """Whether rounding explains the difference of each training."""
        with self.start(kind, cases) as words:
            for case in cases:
                yield {case: self.answer([case], ROUNDING, words)}

    def bits(self, kind: str, cases: Sequence[str]) -> Iterator[dict[str, Values]]:
        """Check cases of equal digests together, as one command, and the others one by one."""
        digests = [side.release.values["digests"] for side in (self.previous, self.tested)]
        a, b = digests
        groups: list[list[str]] = [[]]  # of equal digests, then the others
        for case in cases:
            reason = next((d[case] for d in digests if d[case].startswith(FAILED)), "")
            if reason:
                yield {case: {"outcome": "failed", "sentence": reason.removeprefix(FAILED)}}
            elif a[case] == b[case]:
                groups[0].append(case)
            else:
                groups.append([case])
        with self.start(kind, cases) as words:
            while groups:
                group = groups.pop(0)
                answer = self.answer(group, BITS, words) if group else {}
                if len(group) > 1 and answer["outcome"] != "pass":
                    groups += [[case] for case in group]
                else:
                    yield dict.fromkeys(group, answer)

    def answer(self, cases: Sequence[str], options: Sequence[str], words: Sequence[str]) -> Values:
        """The answer of one check."""
        a, b = ([side.python, SCRIPT, *cases, *words] for side in (self.previous, self.tested))
        result = self.tested.checked(*options, "--against", " ".join(map(str, a)), "--", *b)
        details = result.get("details", {})
        kept = {name: result.get(name) for name in ("outcome", "sentence", "component", "step")}
        kept |= {name: details.get(name) for name in ("detailed recording", "elements")}
        return {name: value for name, value in kept.items() if value is not None}


def run(names: Sequence[str], folder: Path, cases: Sequence[str], *, keep: bool) -> None:
    """Test each release, and compare it with the one before it in the list."""
    before: Installed | None = None
    for name in names:
        tested = Installed(Release.read(name), folder)
        tested.train(cases)
        if before is not None:
            tested.release.require_previous(before.release.name)
            Compared(before, tested).make(cases)
            remove(before, keep=keep)
        tested.test()
        before = tested
    if before is not None:
        remove(before, keep=keep)


def remove(installed: Installed, *, keep: bool) -> None:
    """Remove an environment."""
    if not keep:
        shutil.rmtree(installed.folder / installed.release.name, ignore_errors=True)


def scripts(path: Path) -> dict[str, str]:
    """The Python script of each section of a page that has one."""
    sections = re.split(r"^##+ ", path.read_text(), flags=re.M)[1:]
    codes = {
        text.partition("\n")[0].strip("`"): re.search(r"```python\n(.*?)```", text, re.S)
        for text in sections
    }
    return {title: code[1] for title, code in codes.items() if code}


# The page


def read() -> list[Release]:
    """The newest stored release and its predecessors by comparison, oldest first.

    Other stored releases wait until a later one is compared with them.
    """
    names = [path.stem for path in DATA.glob("*.json")]
    name: str | None = max(names, key=lambda name: int(name.split(".")[1]))
    releases: list[Release] = []
    while name is not None:
        releases.insert(0, Release.read(name))
        name = releases[0].values.get("previous")
    return releases


def page(releases: Sequence[Release]) -> str:
    """The text of docs/releases.md."""
    later = list(pairwise(releases))
    seconds = sum(sum(release.values["seconds"].values()) for release in releases)
    missing = [name for name in RELEASES if name not in {release.name for release in releases}]
    parts = [
        HEAD.format(
            **releases[-1].values["build"],
            hours=f"{seconds / 3600:.1f}",
            missing=MISSING.format(", ".join(missing)) if missing else "",
        ).strip(),
        "## Trainings",
        TRAININGS_TEXT,
        _matrix(later, "trainings", CASES),
        "## Resumed from a checkpoint of the previous release",
        RESUMED_TEXT,
        _matrix(later, "checkpoints", RESUMED),
        "## First differences",
        DIFFERENCES_TEXT,
        _differences(later),
        _explanations(releases),
        "## Each release on its own",
        OWN_TEXT,
        _own(releases),
    ]
    return "\n\n".join(parts) + "\n"


def defects_page(releases: Sequence[Release]) -> str:
    """The text of docs/defects.md, with its table from the stored results."""
    before, start, rest = DEFECTS.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    words = {"True": "correct", "False": "wrong"}
    rows = [
        [
            f"[`{title}`](#{title})",
            *(words.get(out, out) for out in _outputs(releases, "defects", title)),
        ]
        for title in scripts(DEFECTS)
    ]
    versions = [release.version for release in releases]
    return f"{before}{start}{_table(['operator', *versions], rows)}\n{end}{after}"


def _case_text(case: str) -> str:
    return case.replace("+compile", " with torch.compile").replace("+", " with ")


HEAD: Final = """# PyTorch releases

Which release changed which results? Small models train on the CPU under each release. Each release
is compared with the previous one of the table by `check --against --bits-only` and, if the bits
differ, by `--up-to-rounding`. To compare two releases in your own training, see [after an
upgrade](your-training.md#after-an-upgrade).

{processor}, Python {python}, builds for CUDA, one thread, {date}. Results on other processors can
differ.

`python bench/releases.py run` makes [the stored results](../results/reference/releases/), here in
{hours} hours on a shared machine. `python bench/releases.py page` writes this page from them.
{missing}"""
MISSING: Final = "Not run: {}. `run` adds them, and compares each release with its new neighbor."
TRAININGS_TEXT: Final = """Each training has four steps and a fixed seed.

- *identical*: the bits of all losses, batches, gradients, parameters and generators are identical
- *up to rounding*: [rounding explains the difference](rounding.md)
- *beyond rounding*: the difference is larger
- *random draws*: random numbers differ as with a different seed
- *cannot tell*: the noise of rounding is too large to judge by
- *differs*: the bits differ; not compared with rounding"""
RESUMED_TEXT: Final = (
    "Both releases resume the training from a checkpoint that the previous release saved."
)
DIFFERENCES_TEXT: Final = (
    "The first operator whose result differs although its inputs are identical, or the first"
    " recorded value that differs."
)
OWN_TEXT: Final = f"""- *tests*: the fast tests of xorbench that depend most on PyTorch
- *canary*: `xorbench canary --devices cpu`
- *operators*: `check --operators` of a step of {", ".join(map(_case_text, JUDGED.values()))}
- {", ".join(ENGINES)}: the digest of the trained weights, by engine of `xorbench run`"""
NOT_TESTED: Final = "not tested"
BIT_TEXTS: Final = {"pass": "identical", "fail": "differs"}
ROUNDING_TEXTS: Final = {
    "pass": "up to rounding",
    "fail": "beyond rounding",
    "inconclusive": "cannot tell",
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _step(before: Release, release: Release) -> str:
    return f"{before.name} → {release.name}"


def _matrix(later: Sequence[Pair], kind: str, cases: Sequence[str]) -> str:
    rows = [[_case_text(case), *(_cell(*pair, kind, case) for pair in later)] for case in cases]
    return _table(["training", *(_step(*pair) for pair in later)], rows)


def _cell(before: Release, release: Release, kind: str, case: str) -> str:
    """The answer of the check that was asked last; without a check, whether the digests differ."""
    bits, rounding = (
        release.values.get(f"{kind} {question}", {}).get(case) for question in ("bits", "rounding")
    )
    if bits is None:
        digests = {each.values["digests"].get(case) for each in (before, release)}
        return "differs" if kind == "trainings" and len(digests - {None}) > 1 else NOT_TESTED
    if RANDOM.search(_place(rounding or bits)):
        return "random draws"
    texts = ROUNDING_TEXTS if rounding else BIT_TEXTS
    answer = rounding or bits
    return texts.get(answer["outcome"]) or escape(answer["sentence"])


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
        return GENERATED.sub("in compiled code", detailed.partition(": ")[2])
    return str(answer["sentence"]).partition(" first differs from A in ")[2] or answer["sentence"]


def _explanations(releases: Sequence[Release]) -> str:
    """The explanations written by hand, each with the output of its script."""
    text = EXPLANATIONS.read_text().strip()
    for title, code in scripts(EXPLANATIONS).items():
        outputs = zip(_outputs(releases, "explanations", title), releases, strict=True)
        rows = []
        for output, group in groupby(outputs, key=itemgetter(0)):
            first, *others = [release.version for _, release in group]
            rows.append([" to ".join([first, *others[-1:]]), f"`{output}`"])
        text = text.replace(f"{code}```", f"{code}```\n\n{_table(['release', 'output'], rows)}")
    return text


def _outputs(releases: Sequence[Release], part: str, title: str) -> list[str]:
    return [release.values.get(part, {}).get(title, NOT_TESTED) for release in releases]


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
                _operators_text(values.get("operators")),
                *(f"`{engines[name][:8]}`" if name in engines else NOT_TESTED for name in ENGINES),
                f"{sum(values['seconds'].values()) / 60:.0f} min",
            ]
        )
    return _table(["build", "tests", "canary", "operators", *ENGINES, "duration"], rows)


def _suite_text(suite: Values | None) -> str:
    if suite is None:
        return NOT_TESTED
    passed = suite["tests"] - len(suite["failed"])
    return f"{passed} of {suite['tests']} passed"


def _canary_text(canary: Values | None) -> str:
    if canary is None:
        return NOT_TESTED
    return "pass" if canary["exit_code"] == 0 else f"exit code {canary['exit_code']}"


def _operators_text(operators: Values | None) -> str:
    if operators is None:
        return NOT_TESTED
    wrong = ", ".join(name.removeprefix("aten.") for name in operators["wrong"])
    return f"wrong: {wrong}" if wrong else f"{operators['kinds']} kinds correct"


def main() -> None:
    """Test releases, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="action", required=True)
    running = commands.add_parser("run")
    running.add_argument("--releases", default=",".join(RELEASES))
    running.add_argument("--environments", type=Path, default=Path(".releases"))
    running.add_argument("--cases", default=",".join(CASES))
    running.add_argument("--keep", action="store_true", help="keep the environments")
    commands.add_parser("page")
    options = parser.parse_args()
    if options.action == "page":
        PAGE.write_text(page(read()))
        DEFECTS.write_text(defects_page(read()))
    else:
        run(
            options.releases.split(","),
            options.environments.resolve(),
            options.cases.split(","),
            keep=options.keep,
        )


if __name__ == "__main__":
    main()
