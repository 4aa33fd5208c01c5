"""Shows that a change of the code does not change its behaviour: two versions, byte for byte.

    python bench/same_behaviour.py BEFORE_PYTHON AFTER_PYTHON
    python bench/same_behaviour.py BEFORE_PYTHON AFTER_PYTHON --only 'report|compare'

Both are interpreters, each with its version of xorbench. Every case is run by both, in equal
folders. Exit code, output and files must be equal after masking dates, run ids, paths and process
ids. A case that measures also has its times masked: fields of times in records, decimal fractions
and numbers with a thousands separator in text. A case that reads the files of another case gets
those of BEFORE on both sides, so there the measured times are compared too.
"""

import argparse
import difflib
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from same_behaviour_cases import CASES, FILES, Case
from tabulate import tabulate

ROOT: Final = Path(__file__).parents[1]
TIMEOUT_S: Final = 300
DIFF_LINES: Final = 40
DIFF_WIDTH: Final = 300
ENVIRONMENT: Final = {"COLUMNS": "100", "NO_COLOR": "1", "GITHUB_STEP_SUMMARY": ""}

Observed = dict[str, str]  # what was observed, by its name: exit code, stdout, stderr, files
Outcome = tuple[Path, list[str], list[str]]  # the folder of BEFORE, a row of the table, the diff

MASKS: Final = (
    (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "<id>"),
    (r"\d{8}T\d{6}Z", "<date>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+00:00|Z| UTC)?", "<date>"),
    (r"/tmp/[\w.-]+", "<temporary>"),
    (r"\bpid \d+", "pid <pid>"),
    (r"\b\d{20}-\d+\.jsonl", "<process>.jsonl"),
)
UNITS: Final = r"ms|s|min|h|%|MiB|GiB|MB|kB|bytes|samples/s|model-epochs/s"
MEASURED: Final = (
    (r"(?m)^.*(contended|was busy|were busy).*$", "<load>"),
    (r"(?m)^ *\(\d\) .*\n|(?:(?: \(\d\))+| note) *$", ""),  # of rows that may be noisy
    (r"(?m)^(cpu-\S+) .*\[.*$", r"\1 <speed>"),
    (r"\[\d[\d.,]*, \d[\d.,]*\]", "[#]"),
    (r"quartiles [\d.]+ to [\d.]+", "quartiles #"),
    (rf"\d[\d.,]*(?= ?(?:{UNITS})(?!\w))", "#"),
    (r"\d[\d,]*[.,]\d+(e[+-]?\d+)?", "#"),
    (r"-{2,}", "--"),
    (r" +", " "),
)
TIMED_KEYS: Final = re.compile(
    r".*(_s|_ns|_ms|_mib|_bytes|_hz|_mhz|_pct|_percent)|.*(load|busy|time|clock|speed|rss|memory).*"
    r"|started|finished|at|pid|parent|id|run|generators|samples|ratio|low|high|relative"
)


@dataclass(frozen=True)
class Side:
    """An interpreter with its version of xorbench, and the folder in which its cases run."""

    python: str
    folder: Path

    def run(self, case: Case, start: Path | None) -> tuple[Path, Observed]:
        """Run the commands of a case in a folder of its own, which begins as a copy of `start`."""
        folder = self.folder / re.sub(r"\W+", "-", case.name)
        shutil.rmtree(folder, ignore_errors=True)
        if start is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(start, folder, symlinks=True)
        for name, content in FILES.items():
            (folder / name).write_text(content.lstrip())
        observed: Observed = {}
        for line in case.commands.splitlines():
            observed |= self._command(folder, line)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and case.compares(path):
                observed[f"file {path.relative_to(folder)}"] = read(path)
        return folder, observed

    def _command(self, folder: Path, line: str) -> Observed:
        program = line if line.startswith("PYTHON") else f"PYTHON -m xorbench {line}"
        done = subprocess.run(
            [
                path
                for word in shlex.split(program.replace("PYTHON", self.python))
                for path in (folder.glob(word) if "checks/*" in word else [word])
            ],
            cwd=folder,
            env=os.environ | ENVIRONMENT | {"XDG_CACHE_HOME": str(self.folder / "cache")},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        streams = {"stdout": done.stdout, "stderr": done.stderr}
        return {
            f"{line}: exit code": f"{done.returncode}",
            **{f"{line}: {name}": text for name, text in streams.items()},
        }

    @property
    def places(self) -> dict[str, str]:
        """The paths of this side, and what stands for them."""
        prefix = str(Path(self.python).parents[1])
        return {str(self.folder): "<folder>", self.python: "<python>", prefix: "<python>"}


def masked(observed: Observed, places: dict[str, str], *, measured: bool) -> Observed:
    """The same without dates, ids and paths; without measured times too."""
    return dict(
        sorted(
            (mask(name, places), mask(untimed(name, text) if measured else text, places))
            for name, text in observed.items()
        )
    )


def read(path: Path) -> str:
    """The text of a file; the digest of one that is not text."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return hashlib.sha256(data).hexdigest()


def mask(text: str, places: dict[str, str]) -> str:
    """The text without paths, run ids, dates and process ids."""
    for name, replacement in places.items():
        text = text.replace(name, replacement)
    return substituted(text, MASKS)


def substituted(text: str, masks: Sequence[tuple[str, str]]) -> str:
    """The text after each of the substitutions."""
    for pattern, replacement in masks:
        text = re.sub(pattern, replacement, text)
    return text


def untimed(name: str, text: str) -> str:
    """The text without measured times: by the key in JSON, and each decimal fraction elsewhere.

    Tables of times are not compared; the other CSV files have no times.
    """
    if name.endswith(".csv"):
        return text
    if ".jsonl" in name or name.endswith(".trace"):
        return "\n".join(
            sorted(json.dumps(without_times(json.loads(x)), indent=1) for x in text.splitlines())
        )
    if name.endswith(".json") or text.startswith("{"):
        return json.dumps(without_times(json.loads(text)), indent=1)
    return substituted(text, MEASURED)


def without_times(value: Any) -> Any:
    """A value of JSON whose fields of times are masked."""
    if isinstance(value, dict):
        return {
            key: "#" if TIMED_KEYS.fullmatch(key) else without_times(member)
            for key, member in value.items()
        }
    if isinstance(value, str):
        return substituted(value, MEASURED)
    return [without_times(member) for member in value] if isinstance(value, list) else value


def differences(before: Observed, after: Observed, intended: str = "$^") -> Iterator[str]:
    """The lines of a unified diff of everything that is not equal, except intended changes."""
    for name in sorted(before.keys() | after.keys()):
        texts = [
            [
                line
                for line in observed.get(name, "<missing>").splitlines()
                if not re.search(intended, line)
            ]
            for observed in (before, after)
        ]
        if texts[0] != texts[1]:
            yield from difflib.unified_diff(
                *texts, f"{name} before", f"{name} after", "", "", 1, ""
            )


def compared(observed: Observed) -> str:
    """What was compared, in words."""
    codes = " ".join(text for name, text in observed.items() if name.endswith("exit code"))
    lines = sum(
        len(observed[name].splitlines()) for name in observed if not name.startswith("file ")
    )
    files = sum(name.startswith("file ") for name in observed)
    digests = len(set(re.findall(r"\b[0-9a-f]{64}\b", "".join(observed.values()))))
    codes = codes if len(codes) < 12 else f"{len(codes.split())} codes"
    return f"exit {codes}, {lines} lines, {files} files, {digests} digests"


@dataclass
class Comparison:
    """Both sides, and the cases that were run, by name: a case may start from another's files."""

    before: Side
    after: Side
    done: dict[str, Outcome]
    intended: str = "$^"

    def outcome(self, case: Case) -> Outcome:
        """Run a case by both; once more where one that measures differs, as load may explain it."""
        if case.name not in self.done:
            self.done[case.name] = self._run(case)
            if case.measured and self.done[case.name][2]:
                self.done[case.name] = self._run(case)
        return self.done[case.name]

    def _run(self, case: Case) -> Outcome:
        start = self._start(case)
        began = time.perf_counter()
        sides = (self.before, self.after)
        with ThreadPoolExecutor(2) as pool:
            runs = list(pool.map(lambda side: side.run(case, start), sides))
        places = {**self.before.places, **self.after.places}
        pair = [masked(observed, places, measured=case.measured) for _, observed in runs]
        diff = list(differences(*pair, self.intended))
        seconds = f"{time.perf_counter() - began:.0f} s"
        answer = "DIFFERS" if diff else "same"
        return runs[0][0], [case.name, compared(pair[0]), seconds, answer], diff

    def _start(self, case: Case) -> Path | None:
        if case.start is None:
            return None
        by_name = {other.name: other for other in CASES}
        return self.outcome(by_name[case.start])[0] if case.start in by_name else ROOT / case.start


def main(argv: list[str] | None = None, show: Callable[[str], object] = print) -> int:
    """Compare both versions; 0 where all cases are the same, 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("before", metavar="BEFORE_PYTHON")
    parser.add_argument("after", metavar="AFTER_PYTHON")
    parser.add_argument("--only", metavar="REGEX", default="", help="Run cases whose name matches.")
    about = "Lines that match are not compared: an intended change."
    parser.add_argument("--intended", metavar="REGEX", default="$^", help=about)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            Side(python, Path(folder).resolve() / name)
            for name, python in (("a", args.before), ("b", args.after))
        ]
        comparison = Comparison(*sides, {}, args.intended)
        for case in CASES:
            if re.search(args.only, case.name):
                _, row, _ = comparison.outcome(case)
                print(*row, sep="  ", file=sys.stderr, flush=True)
    rows = [row for _, row, _ in comparison.done.values()]
    show(tabulate(rows, ["case", "compared", "took", "answer"]))
    for name, (_, _, diff) in comparison.done.items():
        if diff:
            more = len(diff) - DIFF_LINES
            lines = [line[:DIFF_WIDTH] for line in diff[:DIFF_LINES]]
            show("\n".join([f"\n{name}", *lines, *([f"… {more} lines"] * (more > 0))]))
    return int(any(diff for _, _, diff in comparison.done.values()))


if __name__ == "__main__":
    sys.exit(main())
