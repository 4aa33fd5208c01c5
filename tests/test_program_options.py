"""One table holds the options of `check`, `explain` and `trace`, for both surfaces."""

import ast
import copy
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

import xorbench
from xorbench.api import check
from xorbench.cli import command
from xorbench.errors import BadOption
from xorbench.options.option_text import OptionText, option, option_text, python_text
from xorbench.options.program_options import (
    FIRST_RUNS,
    MOST_RUNS,
    PROGRAM_OPTIONS,
    PYTHON_OPTIONS,
    Option,
    complete,
    options_of,
    request,
    require_allowed,
)
from xorbench.programs.questions import against
from xorbench.programs.questions.against import AgainstRequest
from xorbench.programs.questions.explain import FixRequest
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.questions.trace import TraceCommandRequest
from xorbench.programs.run_maker import Note

COMMANDS = ("check", "explain", "trace")
PACKAGE = Path(xorbench.__file__).parent


def test_a_text_has_a_spelling_for_each_surface() -> None:
    """A flag with its metavar on the command line, only the keyword in Python."""
    text = option_text("{name}: needs {kill_after}", name=option("resume", "CMD"))
    assert text == "--resume CMD: needs --kill-after"
    assert python_text(text) == "resume: needs kill_after"
    assert python_text("a text without options") == "a text without options"


def test_a_value_of_a_text_is_shown_as_it_is() -> None:
    """A user's value may look like an option or a field."""
    text = option_text("{link}: there is no {path!r}", path="--steps {steps}")
    assert text == "--link: there is no '--steps {steps}'"
    assert python_text(text) == "link: there is no '--steps {steps}'"


def test_a_copy_of_a_text_keeps_both_spellings() -> None:
    """`dataclasses.asdict` makes such a copy of a conclusion."""
    text = copy.deepcopy(option_text("give it longer with {timeout}"))
    assert (str(text), text.python) == (
        "give it longer with --timeout",
        "give it longer with timeout",
    )


def templates() -> Iterator[tuple[str, set[str], set[str]]]:
    """Place, fields and values of each text with options in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        texts = {
            node.targets[0].id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "option_text":
                first = node.args[0]
                text = texts[first.id] if isinstance(first, ast.Name) else ast.literal_eval(first)
                names = {name for _, name, _, _ in Formatter().parse(str(text)) if name}
                yield f"{path.name}:{node.lineno}", names, {str(k.arg) for k in node.keywords}


def test_texts_name_options_of_the_table() -> None:
    """Every field of a text is a value or an option of Python."""
    seen = list(templates())
    assert len(seen) > 10
    for place, names, values in seen:
        assert names - values <= PYTHON_OPTIONS.keys(), place
        assert values <= names, place


def test_check_of_python_takes_the_options_of_the_table() -> None:
    """Names, types and defaults of the signature, the plugin's types and the docstring agree."""
    parameters = dict(inspect.signature(xorbench.check).parameters)
    del parameters["command"], parameters["note"]
    types = {name: eval(row.python, vars(check)) for name, row in PYTHON_OPTIONS.items()}
    assert {name: parameter.annotation for name, parameter in parameters.items()} == types
    assert {**types, "note": Note} == inspect.get_annotations(check.CheckOptions)
    arguments = (
        (inspect.getdoc(xorbench.check) or "").partition("Args:")[2].partition("Returns:")[0]
    )
    documented = re.findall(r"^    (\w+): ", arguments, re.M)
    assert documented == ["command", *parameters, "note"]
    none: dict[str, Any] = dict.fromkeys(PYTHON_OPTIONS)
    for name, row in PYTHON_OPTIONS.items():
        default = row.python_value(parameters[name].default)
        expected = Path("results").absolute() if name == "out" else row.default_for(none)
        assert default in (None, (), False, True) or default == expected, name
        assert not row.is_given(default) or row.default is not None, name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_the_options_of_the_table(name: str) -> None:
    """It takes each of its rows, and no row of the other commands."""
    shown = {parameter.name for parameter in command(name).params}
    every = {row.name for row in PROGRAM_OPTIONS}
    own = {"epochs"} & shown  # of the recipe
    assert shown & every - own == options_of(name).keys()


@pytest.mark.parametrize(
    "kind",
    [CheckRequest, AgainstRequest, FixRequest, TraceCommandRequest],
    ids=lambda k: k.__name__,
)
def test_a_request_without_options_has_the_defaults_of_the_table(kind: type) -> None:
    """So that the code agrees with the help."""
    name = {FixRequest: "explain", TraceCommandRequest: "trace"}.get(kind, "check")
    rows = options_of(name)
    values = complete(rows, no_options(rows))
    for field in fields(kind):
        if field.name in values and field.default is not MISSING:
            assert values[field.name] == field.default, field.name


def test_the_runs_of_a_search_are_those_of_the_table() -> None:
    """The help of `explain` and `check --against` states the numbers that these use."""
    rows = options_of("explain")
    values = complete(rows, no_options(rows) | {"in_place": True})
    rerun = request(CheckRequest, values, words=(sys.executable,))
    question = request(FixRequest, values, check=rerun)
    assert f"{FIRST_RUNS} to {MOST_RUNS} times" in question.plan(question.commands())[1]
    assert str(against.PROCESSES) == options_of("check")["processes"].default_with["against"]


def no_options(rows: Mapping[str, Option]) -> dict[str, Any]:
    """The values of a command line without options."""
    nothing = {name: () if row.kind.is_several else None for name, row in rows.items()}
    flags = {
        name: row.kind.from_text(name, False) for name, row in rows.items() if row.kind.is_flag
    }
    return {**nothing, **flags}


def combinations() -> Iterator[tuple[str, Option, str, str, bool]]:
    """Each need and exclusion: command, option, related option, text, whether it is needed."""
    for name in COMMANDS:
        rows = options_of(name)
        for row in rows.values():
            yield from ((name, row, other.name, "needs", True) for other in row.needs)
            excluded = (other.name for other in row.excludes if other.name in rows)
            yield from ((name, row, other, "with", False) for other in excluded)


@pytest.mark.parametrize(
    ("name", "row", "other", "word", "is_need"),
    [pytest.param(*case, id=f"{case[1].name} {case[3]} {case[2]}") for case in combinations()],
)
def test_a_bad_combination_is_an_error_in_both_spellings(
    name: str, row: Option, other: str, word: str, is_need: bool
) -> None:
    """The error names both options, for the command line and for Python."""
    rows = options_of(name)
    values = no_options(rows)
    given = {row.name} if is_need else {row.name, other, *(need.name for need in row.needs)}
    for each in given:
        values[each] = not values[each] if rows[each].kind.is_flag else "a value"
    with pytest.raises(BadOption) as caught:
        require_allowed(rows, values)
    message = caught.value.message
    assert isinstance(message, OptionText)
    for shown in (message, message.python):
        assert word in shown
    assert {row.flag, option(other)} <= set(re.findall(r"--[a-z-]+", message))
    assert "--" not in message.python
    assert {row.name, other} <= set(re.findall(r"\w+", message.python))


def test_valid_combinations_are_accepted() -> None:
    """The control: only the bad combinations raise."""
    rows = options_of("check")
    values = no_options(rows)
    require_allowed(rows, values)
    require_allowed(rows, {**values, "resume": ("python",), "kill_after": (3,), "skip": None})
    require_allowed(rows, {**values, "against": ("python",), "skip": 0, "bits": False})


def test_a_default_may_depend_on_another_option() -> None:
    """A check makes two runs, and eight of each command with --against."""
    rows = {name: options_of("check")[name] for name in ("against", "processes")}
    defaults = complete(rows, {"against": None, "processes": None})
    assert defaults["processes"] == 2
    assert complete(rows, {"against": ("python",), "processes": None})["processes"] == 8
    assert complete(rows, {"against": ("python",), "processes": 3})["processes"] == 3


def test_a_request_takes_the_values_of_its_fields() -> None:
    """Additional values override the parsed ones."""
    made = request(CheckRequest, {"steps": 3, "against": "no field"}, target="m:f")
    assert (made.steps, made.target) == (3, "m:f")
