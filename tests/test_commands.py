"""The command line: its groups, former names, subcommands, completion and help texts."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import Xorbench

from xorbench.cli import COMMANDS, RENAMED, SECTIONS, cli
from xorbench.cli.groups import walk

HELP = CliRunner().invoke(cli, ["--help"]).output
ALL = dict(walk(cli))


def test_the_help_lists_every_command_under_a_heading() -> None:
    """Each once, in the order of `SECTIONS`."""
    listed = re.findall(r"^  ([a-z][a-z-]+)  ", HELP.partition("Your training:")[2], re.M)
    assert tuple(listed) == COMMANDS
    assert all(f"\n{heading}:\n" in HELP for heading in SECTIONS)


def test_each_command_prints_its_help() -> None:
    """Groups and subcommands too, with their own usage line."""
    for words in ALL:
        printed = CliRunner().invoke(cli, [*words, "--help"], prog_name="xorbench")
        assert printed.exit_code == 0
        assert printed.output.startswith(f"Usage: {' '.join(['xorbench', *words])} [OPTIONS]")


@pytest.mark.parametrize("name", RENAMED)
def test_a_former_name_is_one_line_with_the_present_one(name: str, inside: Xorbench) -> None:
    """Exit code 2; the present name is a command."""
    done = inside(name, "--help")
    assert done.returncode == 2
    assert done.stderr == f"xorbench: {name} is now: xorbench {RENAMED[name]}\n"
    assert tuple(RENAMED[name].split()) in ALL


def test_a_folder_may_have_the_name_of_a_subcommand(inside: Xorbench) -> None:
    """Only the first word of `fleet` selects a subcommand."""
    done = inside("fleet", "--merge", "atlas")
    assert (done.returncode, done.stderr) == (2, "xorbench: --merge: no folder 'atlas'\n")
    assert inside("fleet", "atlas", "show").returncode == 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("xorbench pyt", ["pytest-benchmark"]),
        ("xorbench fleet at", ["atlas"]),
        ("xorbench fleet atlas ", ["add", "show"]),
        ("xorbench fleet atlas add --at", ["--atlas"]),
        ("xorbench fleet --merg", ["--merge"]),
        ("xorbench baseline ", ["calibrate", "save"]),
        ("xorbench baseline calibrate --ru", ["--runs"]),
    ],
)
def test_a_shell_completes_commands_and_options(line: str, expected: list[str]) -> None:
    """Also those of subcommands."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [Path(sys.executable).with_name("xorbench")],
        env={**os.environ, **words, "_XORBENCH_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"plain,{word}" for word in expected]


def described() -> dict[str, set[str]]:
    """The sentences of each option, without the default and the target that it is for."""
    texts = defaultdict(set)
    for command in ALL.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                text = re.sub(r"^With [^:]+: |( \[[^]]*\])?\.$", "", parameter.help or "")
                texts[parameter.opts[-1]].add(text[:1].upper() + text[1:])
    return texts


# Options with several sentences, because they do different things.
DIFFERENT = {
    *("--against", "--anonymous", "--atlas", "--baseline", "--devices", "--drop-last", "--dry-run"),
    *("--env", "--epochs", "--json", "--operators", "--out", "--processes", "--resume", "--seeds"),
    *("--threads", "--timeout", "--up-to-rounding", "--with-source"),
}


def test_an_option_has_one_sentence_in_all_commands() -> None:
    """Except where it does different things."""
    texts = described()
    assert len(texts) > 60
    assert {name for name, sentences in texts.items() if len(sentences) > 1} == DIFFERENT


def test_a_help_text_is_a_sentence() -> None:
    """It names its object, and ends with a full stop, after the default."""
    for command in ALL.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                text = parameter.help or ""
                assert re.search(r"^([A-Z]|torch\.).*\.$", text), (parameter.name, text)
                assert not re.search(r"\b(them|so many|meanwhile|besides|fails)\b", text), text
