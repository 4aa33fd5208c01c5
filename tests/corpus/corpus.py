"""Run `check` on every script of the corpus, and say what it found beside what it must find.

python tests/corpus/corpus.py                 the whole corpus, as a Markdown table
python tests/corpus/corpus.py unseeded_init   the scripts of which the name contains this

Exit code 1 if any answer is not the one that is asked for.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
# What a component of the answer may be for what the case asks for: the cause is closer to the
# fault than the first digest that differs.
ACCEPTED: Final = {"loss": {"loss", "data", "forward"}}


@dataclass(frozen=True, slots=True)
class CorpusCase:
    """A script, and what must be found in it."""

    script: str
    pattern: str
    exit: int
    source: str = ""
    step: int | list[int] | None = None
    differs: str = ""
    names: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CorpusAnswer:
    """What `check` said of a script, and what of it is wrong."""

    case: CorpusCase
    exit_code: int
    result: dict[str, Any]
    wrong: list[str]


def cases() -> list[CorpusCase]:
    """Every case of `cases.toml`."""
    with (HERE / "cases.toml").open("rb") as file:
        return [CorpusCase(**case) for case in tomllib.load(file)["case"]]


def answer(case: CorpusCase, folder: Path) -> CorpusAnswer:
    """Check the script in a folder of its own, and compare the answer with the case."""
    work = folder / "work"
    work.mkdir()
    (work / case.script).write_bytes((HERE / case.script).read_bytes())
    empty = folder / "empty"
    empty.mkdir()
    settings = {name: value.format(empty=empty) for name, value in case.env.items()}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "xorbench", "check", "--json", *case.options),
            *("--", sys.executable, case.script),
        ],
        cwd=work,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"sentence": f"no answer: {done.stderr[-300:]}"}
    return CorpusAnswer(case, done.returncode, result, _wrong(case, done.returncode, result))


def _wrong(case: CorpusCase, exit_code: int, result: dict[str, Any]) -> list[str]:
    wrong = []
    if exit_code != case.exit:
        return [f"exit code {exit_code}, not {case.exit}: {result.get('sentence')}"]
    if case.exit == 0:
        return []
    first, last = case.step if isinstance(case.step, list) else (case.step, case.step)
    step = result["step"]
    if first is not None and last is not None and not first <= step <= last:
        wrong.append(f"step {step}, not {case.step}")
    if result["component"] not in ACCEPTED.get(case.differs, {case.differs}):
        wrong.append(f"component {result['component']}, not {case.differs}")
    said = json.dumps(result).lower()
    wrong += [f"{name!r} is not in the answer" for name in case.names if name.lower() not in said]
    return wrong


def main() -> int:
    """Print a row as each script is done."""
    wanted = sys.argv[1:]
    failed = 0
    print("| script | must be | found | right |\n| --- | --- | --- | --- |")
    for case in cases():
        if wanted and not any(word in case.script for word in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = answer(case, Path(folder))
        must = "the same" if case.exit == 0 else f"{case.differs}, step {case.step}"
        said = str(found.result.get("sentence", "")).replace("|", "\\|")
        right = "yes" if not found.wrong else f"**no: {'; '.join(found.wrong)}**"
        component = found.result.get("component") or ""
        print(f"| {case.script} | {must} | {component}: {said} | {right} |", flush=True)
        failed += bool(found.wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
