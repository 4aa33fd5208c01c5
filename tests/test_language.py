"""One concept, one name: retired words stay out of code, docs, file names and output."""

import ast
import gzip
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import run_in

import xorbench
from xorbench.cli import cli

ROOT = Path(__file__).parent.parent
PACKAGE = Path(xorbench.__file__).parent
REFERENCE = ROOT / "results" / "reference"

# A retired word, and the word to use instead. A word begins and ends at what is no letter; a space
# is any white space. An option, a file or a folder is written as it was.
RETIRED = {
    "tape": "epoch digests",
    "tapes": "epoch digests",
    "yardstick": "calibration workload",
    "yardsticks": "calibration workloads",
    "epoch ÷": "normalized time",
    "lattice": "settings table",
    "axes table": "settings table (of a report), `AXES` (the registry)",
    "not exercised": "not varied in this run",
    "parted": "diverged",
    "plant": "inject",
    "plants": "injects, injections",
    "planted": "injected",
    "planting": "injecting",
    "unplantable": "cannot be injected",
    "muster": "fleet data",
    "passport": "rank info",
    "quorum": "rules, majority",
    "worker": "process (a DataLoader has loader workers)",
    "workers": "processes (a DataLoader has loader workers)",
    "reference form": "PyTorch training",
    "universal form": "universal training",
    "held against": "compared with, checked against",
    "rooms": "packages, layers",
    "samples/s ÷ first": "speedup",
    "paid after": "break-even after",
    "--repeats": "--processes",
    "--plant": "--inject",
    "--order-seed": "--schedule-seed",
    "--load": "--models",
    "--at": "--epoch",
    "--values": "--dump-steps",
    "--slow": "--slow-threshold",
    "trainings.jsonl": "results.jsonl",
    "conditions.jsonl": "system_samples.jsonl",
    "constants.csv": "cost_model.csv",
    "points.json": "boundary_points.json",
    "error.csv": "float64_error.csv",
}
# What is not ours to name: DataLoader, executors, the test runner, pyperf; and a fault of loaders.
ALLOWED = re.compile(
    r"(num|persistent|max|wait_for|loader|DataLoader('s)?|xdist)[-_ ]workers?(?![a-z])|"
    r"worker_init_fn|get_worker_info|PYTEST_XDIST_WORKER|worker[-_]noise|--values=20\b",
    re.IGNORECASE,
)


def _pattern(word: str) -> str:
    before = r"(?<![\w-])" if word.startswith("-") or "." in word else "(?<![a-z])"
    after = r"(?![\w-])" if word.startswith("-") else "(?![a-z])" if word[-1].isalpha() else ""
    return before + re.escape(word).replace(r"\ ", r"[\s#>*]+") + after


WORDS = {word: re.compile(_pattern(word)) for word in RETIRED}
NAMES = {
    re.compile(r"base64,[A-Za-z0-9+/=]+"): "",  # pictures
    re.compile(r"(?<=[a-z0-9])(?=[A-Z])"): "_",  # the words of a class name
}


def retired(text: str, where: str = "text") -> list[str]:
    """Each retired word of a text, with its line and the word to use instead."""
    text = ALLOWED.sub("", text)
    for pattern, instead in NAMES.items():
        text = pattern.sub(instead, text)
    text, found = text.lower(), []
    ends = [match.start() for match in re.finditer("\n", text)]
    for word, pattern in WORDS.items():
        if word.split()[0] in text:  # which is faster than the pattern
            for match in pattern.finditer(text):
                line = bisect_left(ends, match.start()) + 1
                found.append(f"{where}:{line}: not {word!r} but: {RETIRED[word]}")
    return found


def files(*folders: Path) -> Iterator[Path]:
    """The files below the folders that are in the repository."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            below = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else path.parts
            cached = any(part == "__pycache__" or part.endswith("_cache") for part in below)
            if path.is_file() and not cached:
                yield path


def text_of(path: Path) -> str:
    """A file's text, less the list above, and the entry of the changelog that tells the renames."""
    text = path.read_text()
    if path == Path(__file__):
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {
                "RETIRED",
                "ALLOWED",
            }:
                count = (node.end_lineno or 0) - node.lineno + 1
                lines[node.lineno - 1 : node.end_lineno] = [""] * count
        return "\n".join(lines)
    if path.name == "CHANGELOG.md":
        return re.sub(r"^- One name for each concept:.*?(?=^\S|\Z)", "", text, flags=re.M | re.S)
    return text


TEXTS = [
    *(path for path in files(PACKAGE, ROOT / "tests", ROOT / "bench", ROOT / "docs")),
    *sorted(ROOT.glob("*.md")),
    *(ROOT / name for name in ("pyproject.toml", "tox.ini", ".ci/run", "results/README.md")),
]


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_is_found_and_the_message_has_the_word_to_use(word: str) -> None:
    """The search can fail: each word is found within a sentence, and told."""
    told = retired(f"One line.\nAnother with {word} in it.")
    assert f"text:2: not {word!r} but: {RETIRED[word]}" in told


@pytest.mark.parametrize("name", ["_{}_of", "read_{}()", "class {:title}Reader", "{:upper}_A"])
def test_a_retired_word_is_found_within_a_name(name: str) -> None:
    """A part of an identifier is a word."""
    word = next(iter(RETIRED))
    name = name.replace("{:title}", word.title()).replace("{:upper}", word.upper())
    assert len(retired(name.format(word))) == 1


def test_a_retired_phrase_is_found_across_lines() -> None:
    """A line break, or the sign of a comment, stands for a space."""
    for word in RETIRED:
        if " " in word:
            assert len(retired(word.replace(" ", "\n    # "))) == 1


@pytest.mark.parametrize(
    "text",
    ["num_workers", "--persistent-workers", "a loader worker", "DataLoader workers", "worker-noise",
     "boundary_points.json", "float64_error.csv", "departed", "--slow-threshold", "mushrooms"],
)  # fmt: skip
def test_a_word_that_is_not_ours_is_allowed(text: str) -> None:
    """A DataLoader has loader workers; a longer word is another word."""
    assert retired(text) == []


def test_no_text_of_the_repository_has_a_retired_word() -> None:
    """Code with its comments and strings, docs, README, changelog."""
    read = (p for p in TEXTS if p.suffix not in {".png", ".pyc"})
    assert [line for p in read for line in retired(text_of(p), str(p.relative_to(ROOT)))] == []


def test_no_file_name_has_a_retired_word() -> None:
    """Nor has a folder."""
    paths = [*TEXTS, *files(REFERENCE)]
    assert [line for p in paths for line in retired(str(p.relative_to(ROOT)), str(p))] == []


def head_of(path: Path) -> str:
    """A file's text; of a compressed file of lines the first, which have all its names."""
    if path.suffix != ".gz":
        return path.read_text()
    with gzip.open(path, "rt") as lines:
        return "".join(islice(lines, 20))


def test_no_reference_report_has_a_retired_word() -> None:
    """What is committed is what the program writes now."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in files(REFERENCE):
        for line in retired(head_of(path)):
            found[str(path.relative_to(ROOT))].add(line.partition(": ")[2])
    assert found == {}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("words", list(commands(cli)), ids=" ".join)
def test_no_help_has_a_retired_word(words: tuple[str, ...]) -> None:
    """What `--help` of every command prints."""
    printed = CliRunner().invoke(cli, [*words, "--help"])
    assert printed.exit_code == 0
    assert "Usage:" in printed.output
    assert retired(printed.output, " ".join(words)) == []


def test_no_option_has_a_retired_word() -> None:
    """Nor a hidden one, which no help shows."""
    seen = []
    for words in commands(cli):
        command: click.Command | None = cli
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None
        seen += [option for parameter in command.params for option in parameter.opts]
    assert "--inject" in seen
    assert retired("\n".join(seen)) == []


def test_no_list_has_a_retired_word() -> None:
    """What `xorbench list` prints."""
    printed = CliRunner().invoke(cli, ["list"])
    assert printed.exit_code == 0
    assert "checks" in printed.output
    assert retired(printed.output) == []


def test_no_report_of_a_run_has_a_retired_word(copied: Path) -> None:
    """The files of a real run, their names, and what the terminal shows."""
    shown = run_in(copied.parent, "report", str(copied))
    assert shown.returncode == 0, shown.stderr
    assert retired(shown.stdout + shown.stderr, "terminal") == []
    texts = [p for p in files(copied) if p.suffix not in {".pt", ".png"}]
    assert {"report.md", "report.html"} <= {path.name for path in texts}
    for path in texts:
        assert retired(path.name) == []
        assert retired(path.read_text(), path.name) == []


def defined(path: Path) -> Iterator[str]:
    """The public classes and type aliases that a module defines at its top."""
    for node in ast.parse(path.read_text()).body:
        name = ""
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        if re.fullmatch(r"[A-Z]\w*[a-z]\w*", name):
            yield name


def test_each_class_and_alias_has_a_name_of_its_own() -> None:
    """No two modules of the package define a public name for a type alike."""
    places = defaultdict(list)
    for path in files(PACKAGE):
        if path.suffix == ".py":
            for name in defined(path):
                places[name].append(str(path.relative_to(PACKAGE)))
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_a_second_definition_is_seen(tmp_path: Path) -> None:
    """The walk itself can fail: it sees classes and aliases, and no constants or functions."""
    path = tmp_path / "module.py"
    path.write_text(
        "class Row: ...\nclass _Row: ...\nSeconds = float\nLimit: type = int\nMAX = 3\nT = 1\n"
        "def Make(): ...\n"
    )
    assert list(defined(path)) == ["Row", "Seconds", "Limit"]
