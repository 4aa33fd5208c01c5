"""Run `check` or `explain` on the scripts of the corpus and compare answers with expectations.

python tests/corpus/corpus.py                 the whole corpus, as a Markdown table
python tests/corpus/corpus.py unseeded_init   the scripts whose names contain this word
python tests/corpus/corpus.py --resume [NAME] the scripts of resume.toml
python tests/corpus/corpus.py --explain [NAME] the fix that `explain` finds for each bug

Exit code 1 if any answer is not as expected.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

NEAR: Final = 3  # lines
HERE: Final = Path(__file__).parent
# Accepted components per expected component: detailed recording may locate the cause more closely
# than the first differing digest.
ACCEPTED: Final = {"loss": {"loss", "data", "forward", "order"}}


@dataclass(frozen=True, slots=True)
class CorpusCase:
    """A script and its expected answer."""

    script: str
    pattern: str
    exit: int
    source: str = ""
    variant_of: str = ""
    step: int | list[int] | None = None
    differs: str = ""
    names: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    fixes: list[str] | None = None
    hint: str = ""
    command: ClassVar[str] = "check"

    @property
    def expected(self) -> str:
        """The expected answer, in a few words."""
        return "identical" if self.exit == 0 else f"{self.differs}, step {self.step}"

    def arguments(self) -> list[str]:
        """The arguments of `check`."""
        return [*self.options, "--", sys.executable, self.script]

    def mismatches(self, exit_code: int, result: dict[str, Any]) -> list[str]:
        """The differences between the answer and the expected answer."""
        if exit_code != self.exit:
            return [f"exit code {exit_code}, not {self.exit}: {result.get('sentence')}"]
        if self.exit == 0:
            return []
        mismatches = []
        first, last = self.step if isinstance(self.step, list) else (self.step, self.step)
        step = result["step"]
        if first is not None and last is not None and not first <= step <= last:
            mismatches.append(f"step {step}, not {self.step}")
        if result["component"] not in ACCEPTED.get(self.differs, {self.differs}):
            mismatches.append(f"component {result['component']}, not {self.differs}")
        mismatches += _missing(self.names, json.dumps(result))
        return mismatches + _missing_line(self.hint, result)


@dataclass(frozen=True, slots=True)
class ResumeCase:
    """A script that is killed and resumed, and its expected answer."""

    script: str
    pattern: str
    exit: int
    kill_after: list[int] = field(default_factory=list)  # without it, --kill-in-save
    source: str = ""
    variant_of: str = ""
    differs: str | list[str] = ""
    step: int | None = None
    names: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    hint: str = ""
    command: ClassVar[str] = "check"

    @property
    def expected(self) -> str:
        """The expected answer, in a few words."""
        if self.exit == 0:
            return "identical"
        components = [self.differs] if isinstance(self.differs, str) else self.differs
        return " or ".join(components) + ("" if self.step is None else f", at step {self.step}")

    def arguments(self) -> list[str]:
        """The arguments of `check`."""
        command = [sys.executable, self.script]
        steps = ",".join(map(str, self.kill_after))
        kills = ["--kill-after", steps] if steps else ["--kill-in-save"]
        return [*kills, "--resume", shlex.join([*command, "--resume"]), "--", *command]

    def mismatches(self, exit_code: int, result: dict[str, Any]) -> list[str]:
        """The differences between the answer and the expected answer."""
        if exit_code != self.exit:
            return [f"exit code {exit_code}, not {self.exit}: {result.get('sentence')}"]
        if self.exit == 0:
            return []
        mismatches = []
        components = [self.differs] if isinstance(self.differs, str) else self.differs
        if result.get("component") not in components:
            mismatches.append(f"component {result.get('component')}, not {self.differs}")
        if self.step is not None and f"at step {self.step}" not in result.get("sentence", ""):
            mismatches.append(f"not at step {self.step}")
        mismatches += _missing(self.names, result.get("sentence", ""))
        return mismatches + _missing_line(self.hint, result)


@dataclass(frozen=True, slots=True)
class ExplainCase:
    """A script with a bug, and the switches that fix it."""

    case: CorpusCase
    command: ClassVar[str] = "explain"

    @property
    def script(self) -> str:
        """The file."""
        return self.case.script

    @property
    def env(self) -> dict[str, str]:
        """Variables to set."""
        return self.case.env

    @property
    def expected(self) -> str:
        """The expected answer, in a few words."""
        return " or ".join(self.case.fixes or ["no fix"])

    def arguments(self) -> list[str]:
        """The arguments of `explain`."""
        return ["--no-cost", "--", sys.executable, self.script]

    def mismatches(self, exit_code: int, result: dict[str, Any]) -> list[str]:
        """The differences between the answer and the expected answer."""
        if exit_code != 1:
            return [f"exit code {exit_code}, not 1: {result.get('sentence')}"]
        fix = "+".join(result["fix"])
        if fix not in (self.case.fixes or [""]):
            return [f"{fix or 'no fix'}, not {self.expected}"]
        return []


def _missing(names: list[str], text: str) -> list[str]:
    return [f"{name!r} is not in the answer" for name in names if name.lower() not in text.lower()]


def _missing_line(hint: str, result: dict[str, Any]) -> list[str]:
    """Whether the hint names the line, or one within three lines."""
    script, _, line = hint.partition(":")
    named = re.findall(rf"{re.escape(script)}:(\d+)", result.get("hint") or "")
    if not line or any(abs(int(number) - int(line)) <= NEAR for number in named):
        return []
    return [f"the hint does not lead to {hint}: {result.get('hint')}"]


Case = CorpusCase | ResumeCase | ExplainCase
Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class CorpusAnswer:
    """The answer for a script, and its differences from the expected answer."""

    case: Case
    exit_code: int
    result: dict[str, Any]
    mismatches: list[str]


def cases() -> list[CorpusCase]:
    """Every case of `cases.toml`."""
    with (HERE / "cases.toml").open("rb") as file:
        return [CorpusCase(**case) for case in tomllib.load(file)["case"]]


def resume_cases() -> list[ResumeCase]:
    """Every case of `resume.toml`."""
    with (HERE / "resume.toml").open("rb") as file:
        return [ResumeCase(**case) for case in tomllib.load(file)["case"]]


def explain_cases() -> list[ExplainCase]:
    """Every script of `cases.toml` with a bug."""
    return [ExplainCase(case) for case in cases() if case.exit == 1]


def started(folder: Path, *arguments: str, env: dict[str, str]) -> Completed:
    """Run the program in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "xorbench", *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(case: Case, folder: Path, program: Callable[..., Completed] = started) -> CorpusAnswer:
    """Check the script in its own folder, and compare the answer with the case."""
    work = folder / "work"
    work.mkdir()
    home = HERE / "resume" if isinstance(case, ResumeCase) else HERE
    (work / case.script).write_bytes((home / case.script).read_bytes())
    empty = folder / "empty"
    empty.mkdir()
    settings = {name: value.format(empty=empty) for name, value in case.env.items()}
    words = (case.command, "--json", *case.arguments())
    done = program(work, *words, env={**os.environ, **settings})
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"sentence": f"no answer: {done.stderr[-300:]}"}
    return CorpusAnswer(case, done.returncode, result, case.mismatches(done.returncode, result))


def _requested() -> Sequence[Case]:
    if "--resume" in sys.argv:
        return resume_cases()
    return explain_cases() if "--explain" in sys.argv else cases()


def main() -> int:
    """Print one row per script."""
    wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
    every: list[Case] = [*_requested()]
    failed = 0
    print("| script | expected | answer | correct |\n| --- | --- | --- | --- |")
    for case in every:
        if wanted and not any(word in case.script for word in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            given = answer(case, Path(folder))
        sentence = str(given.result.get("sentence", "")).replace("|", "\\|")
        correct = "yes" if not given.mismatches else f"**no: {'; '.join(given.mismatches)}**"
        component = given.result.get("component") or ""
        row = (case.script, case.expected, f"{component}: {sentence}", correct)
        print(f"| {' | '.join(row)} |", flush=True)
        failed += bool(given.mismatches)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
