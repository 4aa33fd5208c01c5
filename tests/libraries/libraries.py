"""Run `xorbench check` on the quickstarts of public libraries, and compare with `libraries.toml`.

python tests/libraries/libraries.py --install        install the libraries of the table
python tests/libraries/libraries.py [NAME …]         check the scripts whose name contains a NAME
python tests/libraries/libraries.py --write [NAME …] also write their rows of the published table

Exit code 1 if an answer is not the expected one. Nothing is downloaded while a script runs.
"""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PUBLISHED: Final = HERE.parents[1] / "results" / "reference" / "libraries.md"
# One thread: some operators add in a different order on each run with two.
SETTINGS: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "KERAS_BACKEND": "torch",
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",
}
ANSWERS: Final = {0: "identical", 1: "not identical", 3: "inconclusive"}
HEAD: Final = """# Quickstarts of public libraries

Written by `python tests/libraries/libraries.py --write`. Each script is the library's quickstart,
with a tiny model and synthetic data. The answer is from `xorbench check`, which runs the script
twice. The weights at the end are also compared with a run without the recorder. The seconds are
the total of these runs on two cores under other load, mostly imports. Versions: Python {python},
PyTorch {torch}, on the CPU with one thread.

| library | version | script | answer | steps | parameters | weights | seconds |
| --- | --- | --- | --- | ---: | ---: | --- | ---: |
"""


@dataclass(frozen=True, slots=True)
class LibraryCase:
    """A quickstart, and the expected answer of `check`."""

    library: str
    script: str
    requires: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    ranks: int = 1
    exit: int = 0
    steps: int | None = None
    parameters: int | None = None
    note: str = ""
    pending: str = ""

    @property
    def missing(self) -> list[str]:
        """The required packages that are not installed."""
        names = map(distribution, [*self.requires, *self.bare])
        return [name for name in names if version(name) is None]

    def command(self) -> str:
        """A shell command that trains, and prints a digest of the saved weights."""
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.ranks}"]
        words = [sys.executable, *(launch if self.ranks > 1 else []), self.script]
        return f"{shlex.join(words)} && sha256sum weights*.pt"


@dataclass(frozen=True, slots=True)
class LibraryAnswer:
    """The answer of `check`, and how it differs from the expected one."""

    case: LibraryCase
    exit_code: int
    result: dict[str, Any]
    digests: list[str]
    seconds: float

    @property
    def steps(self) -> int | None:
        """The number of steps that were compared."""
        return self._count("step")

    @property
    def parameters(self) -> int | None:
        """The number of parameters that were compared."""
        return self._count("parameter")

    @property
    def wrong(self) -> list[str]:
        """Each difference from the expected answer."""
        case, wrong = self.case, []
        if self.exit_code != case.exit:
            wrong.append(f"exit code {self.exit_code}, not {case.exit}: {self.text}")
        for name in ("steps", "parameters"):
            expected, counted = getattr(case, name), getattr(self, name)
            if expected is not None and counted != expected:
                wrong.append(f"{counted} {name}, not {expected}")
        if case.exit == 0 and not self.same_weights:
            wrong.append(f"weights differ without the recorder: {self.digests}")
        return wrong

    @property
    def same_weights(self) -> bool:
        """Whether the runs of `check` and the run without the recorder end with equal weights."""
        first, *others = self.digests
        return bool(first and others) and set(others) == {first}

    @property
    def text(self) -> str:
        """The sentence and the hint."""
        return f"{self.result.get('sentence', '')} {self.result.get('hint', '')}".strip()

    def row(self) -> str:
        """The row of the published table."""
        answer = ANSWERS.get(self.exit_code, f"exit code {self.exit_code}")
        cells = [
            self.case.library,
            version(self.case.library) or "",
            f"[{self.case.script}](../../tests/libraries/{self.case.script})",
            f"{answer}: {self.case.note}" if self.case.note else answer,
            f"{self.steps or ''}",
            f"{self.parameters or ''}",
            "" if self.exit_code == 1 else "same" if self.same_weights else "different",
            f"{self.seconds:.0f}",
        ]
        return f"| {' | '.join(cells)} |"

    def _count(self, noun: str) -> int | None:
        coverage = str(self.result.get("details", {}).get("coverage", ""))
        number = re.search(rf"([\d,]+) {noun}s?\b", coverage)
        return int(number[1].replace(",", "")) if number else None


def distribution(requirement: str) -> str:
    """The name in a requirement such as `skorch>=1,<2`."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def version(name: str) -> str | None:
    """The installed version of a distribution, without a local part such as `+cpu`."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def cases() -> list[LibraryCase]:
    """Every case of `libraries.toml`."""
    with (HERE / "libraries.toml").open("rb") as file:
        return [LibraryCase(**case) for case in tomllib.load(file)["case"]]


def answer(case: LibraryCase, folder: Path) -> LibraryAnswer:
    """Run the script once without the recorder, and check it."""
    start = time.monotonic()
    plain = _run(case, folder / "plain", "sh", "-c", case.command())
    check = [sys.executable, "-m", "xorbench", "check", "--json", "--timeout", "600"]
    done = _run(case, folder / "checked", *check, "--", "sh", "-c", case.command())
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"sentence": f"no answer: {done.stderr[-300:]}"}
    runs = folder / "checked" / "results" / "checks" / result.get("check", "")
    printed = [plain.stdout, *(path.read_text() for path in sorted(runs.glob("run-*/stdout.txt")))]
    digests = [" ".join(re.findall(r"^([0-9a-f]{64})  weights", text, re.M)) for text in printed]
    return LibraryAnswer(case, done.returncode, result, digests, time.monotonic() - start)


def _run(case: LibraryCase, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    (folder / case.script).write_bytes((HERE / case.script).read_bytes())
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **SETTINGS},
        capture_output=True,
        text=True,
        check=False,
    )


def install() -> int:
    """Install every library with pip into the environment of this interpreter."""
    pip = [sys.executable, "-m", "pip", "install", "--no-compile"]
    whole = dict.fromkeys(name for case in cases() for name in case.requires)
    bare = dict.fromkeys(name for case in cases() for name in case.bare)
    code = subprocess.run([*pip, *whole], check=False).returncode
    return code or subprocess.run([*pip, "--no-deps", *bare], check=False).returncode


def write(answer: LibraryAnswer) -> None:
    """Write the row of this answer; the rows of other scripts stay as they are."""
    rows = {}
    if PUBLISHED.exists():
        for line in PUBLISHED.read_text().splitlines():
            if script := re.search(r"\[(\w+\.py)\]", line):
                rows[script[1]] = line
    rows[answer.case.script] = answer.row()
    head = HEAD.format(python=platform.python_version(), torch=version("torch"))
    ordered = [f"{rows[case.script]}\n" for case in cases() if case.script in rows]
    PUBLISHED.write_text("".join([head, *ordered]))


def main() -> int:
    """Check the named scripts, and print a line as each is done."""
    if "--install" in sys.argv:
        return install()
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    answers = []
    for case in cases():
        if names and not any(name in case.script for name in names):
            continue
        if case.missing:
            print(f"{case.script}: skipped, not installed: {', '.join(case.missing)}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            answers.append(answer(case, Path(folder)))
        right = "; ".join(answers[-1].wrong) or "as expected"
        print(f"{answers[-1].row()} {right}", flush=True)
        if "--write" in sys.argv:
            write(answers[-1])
    return 1 if any(one.wrong and not one.case.pending for one in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
