"""The options of the commands that run a program of the user's: `check`, `explain`, `trace`.

One row holds an option: the command line, `xorbench.check`, the fixture of pytest and the requests
are made from these rows. Standard library only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.option_text import OptionText, flag, option, option_text

Request = TypeVar("Request")
Reader = Callable[[str, Any], Any]  # name as it is shown, text or value → value of the request
NO_TEXTS: Final[Mapping[str, str]] = MappingProxyType({})

FIRST_RUNS: Final = 4  # of explain, before the share of pairs that differ is known
MOST_RUNS: Final = 10  # of explain, to see how often pairs differ
LARGEST: Final = 2**31


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read from the text of the command line, and from a value of Python.

    A flag is a truth on both; of an option that may be given several times, `from_text` reads all
    texts.
    """

    from_text: Reader
    from_python: Reader
    is_flag: bool = False
    is_several: bool = False


def text_or_number(read: Callable[[str, str], Any]) -> Kind:
    """A value that Python may also give as a number, such as a size."""
    return Kind(read, lambda name, value: read(name, str(value)))


def whole(low: int, high: int) -> Kind:
    """A whole number, which Python gives as an `int`."""
    return Kind(partial(parse.integer, low=low, high=high), partial(_whole, low=low, high=high))


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadOption(f"{name}: must be a whole number, got {value!r}")
    return parse.integer(name, str(value), low, high)


def _steps(name: str, value: object) -> tuple[int, ...]:
    """A number of steps, or several."""
    numbers = (value,) if isinstance(value, int) else value
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise BadOption(f"{name}: must be a number of steps, or a list, got {value!r}")
    if not numbers:
        raise BadOption(f"{name}: empty", "give at least one number of steps")
    return parse.distinct(name, [_whole(name, number, 1, LARGEST) for number in numbers])


def _texts(name: str, value: Sequence[object]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise BadOption(f"{name}: must be a list, got {value!r}", f"{name}=[{value!r}]")
    return tuple(map(str, value))


def _variables(name: str, texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    variables = tuple(parse.variable(name, text, "such as MKL_CBWR=AVX2") for text in texts)
    parse.distinct(name, [variable for variable, _ in variables])
    return variables


def _detail(name: str, text: str) -> tuple[int, int]:
    steps = parse.one_range(name, text, 0, LARGEST)
    return steps[0], steps[-1]


def _existing_folder(name: str, value: Any) -> Path:
    path = Path(value).absolute()
    if not path.is_dir():
        raise BadOption(f"{name}: there is no folder {str(value)!r}")
    return path


def _path(_name: str, text: str) -> Path:
    return Path(text)


def command(hint: str) -> Kind:
    """The words of a command; `xorbench.check` makes them of what Python can run."""
    return Kind(partial(parse.command, hint=hint), lambda _name, words: words)


FLAG: Final = Kind(lambda _name, given: bool(given), lambda _name, given: bool(given), is_flag=True)
OFF: Final = Kind(lambda _name, given: not given, lambda _name, given: not given, is_flag=True)
"""A flag that turns the field of its request off."""
SEVERAL: Final = Kind(_texts, _texts, is_several=True)
FOLDER: Final = Kind(parse.folder, lambda _name, value: Path(value).absolute())
SIZE: Final = text_or_number(parse.size)


@dataclass(frozen=True, slots=True)
class Other:
    """Another option that an option needs, or that it cannot be given with.

    Attributes:
        name: its name.
        hint: what to do.
        metavar: shown behind it on the command line.
        leads_in_python: Python names it first.
    """

    name: str
    hint: str = ""
    metavar: str = ""
    leads_in_python: bool = False


@dataclass(frozen=True, slots=True)
class ProgramOption:
    """An option of commands that run a program.

    Attributes:
        name: its name in Python and of its parameter; the command line has `-` for `_`.
        kind: how it is read.
        help: what --help shows, by the command that takes it; empty for Python alone.
        metavar: of its value.
        default: as one would type it; None where the request has no value.
        default_with: the default where another option is given, by the name of that.
        field: of the request; by default its name.
        python: the type of the keyword of `xorbench.check`; empty where it has none.
        is_of_cases: `explain` and `trace` take it for cases of the XOR training as well.
        needs: the options without which it cannot be given.
        excludes: the options with which it cannot be given.
    """

    name: str
    kind: Kind
    help: Mapping[str, str] = NO_TEXTS
    metavar: str | None = None
    default: str | None = None
    default_with: Mapping[str, str] = NO_TEXTS
    field: str = ""
    python: str = ""
    is_of_cases: bool = False
    needs: tuple[Other, ...] = ()
    excludes: tuple[Other, ...] = ()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return flag(self.name)

    def is_given(self, value: object) -> bool:
        """Whether a value, as it was read, is not that of an option that was left out."""
        if self.kind.is_flag:
            return value != self.kind.from_text(self.name, False)
        return value is not None and value != ()

    def python_value(self, value: Any) -> Any:
        """The value that Python gives; raises `BadOption`, which names the keyword."""
        is_left_out = value is None and self.python.endswith("| None")
        return None if is_left_out else self.kind.from_python(self.name, value)

    def default_for(self, values: Mapping[str, Any]) -> Any:
        """The value of the option where it is left out."""
        texts = (text for name, text in self.default_with.items() if values[name] is not None)
        text = next(texts, self.default)
        return None if text is None else self.kind.from_text(self.flag, text)


AGAINST: Final = command("--against 'python old.py' -- python new.py")
IN_TURN: Final = OptionText(
    "check --kill-after 12 --resume 'python train.py --resume' -- python train.py",
    "check('python train.py', resume='python resume.py', kill_after=12)",
)
NEEDS_AGAINST: Final = (Other("against", metavar="CMD"),)

PROGRAM_OPTIONS: Final = (
    ProgramOption(
        "against", AGAINST,
        {"check": "Another command: the same bits, and as fast?"},
        "CMD", python="Trainable | None",
        excludes=(Other("resume"), Other("kill_after")),
    ),
    ProgramOption(
        "against", AGAINST,
        {"explain": "Of a command: another one; what gives both equal bits?"},
        "CMD",
    ),
    ProgramOption(
        "env", Kind(_variables, _variables, is_several=True),
        {"explain": "Of a command: a variable to try as a switch."},
        "NAME=VALUE", field="variables",
    ),
    ProgramOption(
        "processes", whole(2, 64),
        {"check": "How many times to run it [2, each with --against 5]."},
        "N", "2", {"against": "5"}, python="int | None",
        excludes=(
            Other("resume", OptionText("give more --kill-after", ""), leads_in_python=True),
        ),
    ),
    ProgramOption(
        "processes", whole(FIRST_RUNS, 64),
        {"explain": "Of a command: runs to see how often it differs [10]."},
        "N", str(MOST_RUNS),
    ),
    ProgramOption(
        "max_runs", whole(FIRST_RUNS, 100_000),
        {"explain": "Of a command: stop after so many runs [100]."},
        "N", "100",
    ),
    ProgramOption(
        "no_cost", OFF,
        {"explain": "Of a command: do not time a step with the cure."},
        field="cost",
    ),
    ProgramOption(
        "skip", whole(0, 1_000_000),
        {"check": "With --against: first steps that are not timed [3]."},
        "N", "3", python="int | None", needs=NEEDS_AGAINST,
    ),
    ProgramOption(
        "skip", whole(0, 1_000_000),
        {"explain": "Of a command: first steps that are not timed [3]."},
        "N", "3",
    ),
    ProgramOption(
        "threshold", text_or_number(parse.share),
        {"check": "With --against: slower by more fails [5%]."},
        "X", "5%", python="float | str | None", needs=NEEDS_AGAINST,
    ),
    ProgramOption(
        "bits_only", OFF,
        {"check": "With --against: do not judge the speed."},
        field="speed", python="bool", needs=NEEDS_AGAINST, excludes=(Other("speed_only"),),
    ),
    ProgramOption(
        "speed_only", OFF,
        {"check": "With --against: do not judge the bits."},
        field="bits", python="bool", needs=NEEDS_AGAINST,
    ),
    ProgramOption(
        "steps", whole(1, LARGEST),
        {
            "check": "End each run after K steps of an optimizer.",
            "explain": "Of a command: end each run after K steps.",
            "trace": "Of a command: end it after K steps.",
        },
        "K", python="int | None",
    ),
    ProgramOption(
        "detail", Kind(_detail, _detail),
        {"trace": "Of a command: steps to record in detail: 7-9."},
        "STEPS",
    ),
    ProgramOption(
        "folder", Kind(_existing_folder, _existing_folder),
        python="str | os.PathLike[str] | None",
    ),
    ProgramOption(
        "in_place", FLAG,
        {
            "check": "Run in this folder itself, not in copies of it.",
            "explain": "Of a command: run in this folder itself.",
        },
        python="bool",
        excludes=(
            Other("resume", OptionText("each run needs its own copy", ""), leads_in_python=True),
        ),
    ),
    ProgramOption(
        "exclude", SEVERAL,
        {
            "check": "Leave it out of the copies.",
            "explain": "Of a command: leave it out of the copies.",
        },
        "GLOB", python="Sequence[str]",
    ),
    ProgramOption(
        "link", SEVERAL,
        {
            "check": "Link it into the copies, to be read.",
            "explain": "Of a command: link it into the copies, to be read.",
        },
        "PATH", python="Sequence[str]",
    ),
    ProgramOption(
        "max_copy", SIZE,
        {
            "check": "The largest folder to copy [1GB].",
            "explain": "Of a command: the largest folder to copy [1GB].",
        },
        "SIZE", "1GB", python="int | str",
    ),
    ProgramOption(
        "max_record", SIZE,
        {
            "check": "The largest record [1GB].",
            "explain": "Of a command: the largest record [1GB].",
            "trace": "Of a command: the largest trace [1GB].",
        },
        "SIZE", "1GB", python="int | str",
    ),
    ProgramOption(
        "timeout", text_or_number(partial(parse.positive, high=parse.LONGEST_RUN_S)),
        {
            "check": "Seconds that a run may take [3600].",
            "explain": "Seconds: for an answer [120], a command [3600].",
            "trace": "Seconds: for an answer [120], a command [3600].",
        },
        "S", "3600", field="timeout_s", python="float", is_of_cases=True,
    ),
    ProgramOption(
        "with_source", FLAG,
        {"check": "Show lines of source beside their numbers."},
        python="bool",
    ),
    ProgramOption(
        "with_source", FLAG,
        {"trace": "Of a command: keep lines of source in it."},
        needs=(Other("detail", "lines of source stand in detail", "STEPS"),),
    ),
    ProgramOption(
        "anonymous", FLAG,
        {
            "check": "No host name, absolute path or UUID in the files.",
            "explain": "No host name, absolute path or UUID in the files.",
            "trace": "Of a command: no host name, absolute path or UUID in it.",
        },
        python="bool",
    ),
    ProgramOption(
        "kill_after", Kind(partial(parse.integers, low=1, high=LARGEST), _steps),
        {"check": "Kill it after K steps, a trial for each: 5,12. Needs --resume."},
        "LIST", python="int | Sequence[int] | None", needs=(Other("resume", IN_TURN),),
    ),
    ProgramOption(
        "resume", command("give the command that resumes the training"),
        {"check": "The command that resumes it. Needs --kill-after."},
        "CMD", python="Trainable | None", needs=(Other("kill_after", IN_TURN),),
    ),
    ProgramOption(
        "from", Kind(_path, _path),
        {"check": "Judge the records of a check once more, as it was asked for."},
        "DIR",
    ),
    ProgramOption(
        "dry_run", FLAG,
        {
            "check": "Say what would happen, and run nothing.",
            "explain": "Of a command: say what would happen, run nothing.",
        },
    ),
    ProgramOption(
        "out", FOLDER,
        dict.fromkeys(("check", "explain", "trace"), "Folder of results [results]."),
        "DIR", "results", field="root", python="str | os.PathLike[str]", is_of_cases=True,
    ),
    ProgramOption(
        "name", Kind(parse.name, parse.name),
        {"check": "A name to find it by.", "explain": "Of a command: a name to find it by."},
        "NAME", python="str | None",
    ),
)  # fmt: skip


def options_of(command: str) -> dict[str, ProgramOption]:
    """The options of a command, by name."""
    return {row.name: row for row in PROGRAM_OPTIONS if command in row.help}


PYTHON_OPTIONS: Final = {row.name: row for row in PROGRAM_OPTIONS if row.python}


def complete(options: Mapping[str, ProgramOption], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a request's fields, with defaults; raises `BadOption` for a combination.

    `values` are read, by the names of the options; None for one that was left out.
    """
    require_allowed(options, values)
    return {
        row.field or name: row.default_for(values) if values[name] is None else values[name]
        for name, row in options.items()
    }


def require_allowed(options: Mapping[str, ProgramOption], values: Mapping[str, Any]) -> None:
    """Raise `BadOption` where an option lacks one that it needs, or has one that it excludes."""
    given = {name for name, row in options.items() if row.is_given(values[name])}
    for name in filter(given.__contains__, options):
        for other in options[name].needs:
            if other.name not in given:
                needed = option(other.name, other.metavar)
                message = option_text("{name}: needs {needed}", name=option(name), needed=needed)
                raise BadOption(message, other.hint)
        for other in options[name].excludes:
            if other.name in given:
                raise BadOption(_apart(name, other), other.hint)


def _apart(name: str, other: Other) -> OptionText:
    message = "{first}: cannot be given with {second}"
    first, second = option(name), option(other.name)
    if other.leads_in_python:
        first, second = OptionText(first, other.name), OptionText(second, name)
    return option_text(message, first=first, second=second)


def request(kind: type[Request], values: Mapping[str, Any], **more: Any) -> Request:
    """A request from the values that it has fields for."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names}, **more)
