"""The options of the commands that run a user's program: `check`, `explain`, `trace`.

Each option is one row. The command line, `xorbench.check`, the pytest fixture and the requests use
these rows. Standard library only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.options.option_text import OptionText, flag, option, option_text

Request = TypeVar("Request")
Reader = Callable[[str, Any], Any]  # displayed name, text or value → value of the request

FIRST_RUNS: Final = 4  # of explain, to estimate the share of pairs that differ
MOST_RUNS: Final = 10  # of explain, for the same estimate
MOST_RANKS: Final = 4096
LARGEST: Final = 2**31
FIRST_STEPS: Final = (0, 1)  # of check --operators


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read from a text of the command line, and from a value of Python.

    Without `from_value`, `from_text` reads both. A flag is true or false in both. For an option
    that can be repeated, the function reads all texts together.
    """

    from_text: Reader
    from_value: Reader | None = None
    is_flag: bool = False
    is_several: bool = False

    def from_python(self, name: str, value: Any) -> Any:
        """Convert a value of Python; raises `BadOption`."""
        return (self.from_value or self.from_text)(name, value)


def text_or_number(read: Callable[[str, str], Any]) -> Kind:
    """Read a value that may be a number in Python, such as a size."""
    return Kind(read, lambda name, value: read(name, str(value)))


def whole(low: int, high: int) -> Kind:
    """Read a whole number, which is an `int` in Python."""
    return Kind(partial(parse.integer, low=low, high=high), partial(_whole, low=low, high=high))


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadOption(f"{name}: must be a whole number, got {value!r}")
    return parse.integer(name, str(value), low, high)


def _steps(name: str, value: object) -> tuple[int, ...]:
    """Read one or several numbers of steps."""
    numbers = (value,) if isinstance(value, int) else value
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise BadOption(f"{name}: must be a number of steps, or a list, got {value!r}")
    if not numbers:
        raise BadOption(f"{name}: empty", "give at least one number of steps")
    return parse.distinct(name, [_whole(name, number, 1, LARGEST) for number in numbers])


def _numbered_steps(name: str, value: object) -> tuple[int, ...]:
    """Read the numbers of steps; True stands for the first two."""
    if value is True:
        return FIRST_STEPS
    numbers = (value,) if isinstance(value, int) else value
    if isinstance(numbers, str) or not isinstance(numbers, Sequence) or not numbers:
        raise BadOption(f"{name}: must be True, a step, or a list of steps, got {value!r}")
    return parse.distinct(name, [_whole(name, number, 0, LARGEST) for number in numbers])


def _numbers_of_ranks(name: str, text: str) -> tuple[int, ...]:
    return _several_counts(name, parse.integers(name, text, 1, MOST_RANKS))


def _several_counts(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise BadOption(f"{name}: must be two or more numbers of ranks", "such as 1,2")
    return parse.distinct(name, [_whole(name, count, 1, MOST_RANKS) for count in value])


def _texts(name: str, value: Sequence[object]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise BadOption(f"{name}: must be a list, got {value!r}", f"{name}=[{value!r}]")
    return tuple(map(str, value))


def _variables(name: str, texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    variables = tuple(parse.variable(name, text, "such as MKL_CBWR=AVX2") for text in texts)
    parse.distinct(name, [variable for variable, _ in variables])
    return variables


def _detail(name: str, text: str) -> tuple[int, int]:
    steps = parse.single_range(name, text, 0, LARGEST)
    return steps[0], steps[-1]


def _existing_folder(name: str, value: Any) -> Path:
    path = Path(value).absolute()
    if not path.is_dir():
        raise BadOption(f"{name}: no folder {str(value)!r}")
    return path


def command(hint: str) -> Kind:
    """Read the words of a command; `xorbench.check` converts other commands to words."""
    return Kind(partial(parse.command, hint=hint), lambda _name, words: words)


def _flag(*, on: bool) -> Kind:
    """Read a flag; the field of the request is `on` if the flag is given."""

    def read(_name: str, given: object) -> bool:
        return bool(given) is on

    return Kind(read, is_flag=True)


FLAG: Final = _flag(on=True)
OFF: Final = _flag(on=False)
AGAINST: Final = command("--against 'python old.py' -- python new.py")
SEVERAL: Final = Kind(_texts, is_several=True)
VARIABLES: Final = Kind(_variables, is_several=True)
DETAIL: Final = Kind(_detail)
PATH: Final = Kind(lambda _name, text: Path(text))
FOLDER: Final = Kind(parse.folder, lambda _name, value: Path(value).absolute())
SIZE: Final = text_or_number(parse.size)
NO_NAMES: Final = "Omit host name, absolute paths and UUIDs."


@dataclass(frozen=True, slots=True)
class RelatedOption:
    """An option that another option needs or excludes."""

    name: str
    hint: str = ""
    metavar: str = ""  # shown after the name on the command line
    leads_in_python: bool = False  # the Python message names this option first
    alternative: str = ""  # an option that is needed instead


@dataclass(frozen=True, slots=True)
class Option:
    """An option of commands that run a program; its flag has `-` for `_`."""

    name: str
    kind: Kind
    about: str  # one sentence
    commands: tuple[str, ...]  # empty for an option that only Python has
    metavar: str | None = None
    default: str | None = None  # as typed; None if the request has no value
    default_with: Mapping[str, str] = field(default_factory=dict)  # if another option is given
    help_by_command: Mapping[str, str] = field(default_factory=dict)  # instead of `about`
    request_field: str = ""  # by default the name
    python: str = ""  # the type of the keyword of `xorbench.check`; empty without a keyword
    is_for_cases: bool = False  # `explain` and `trace` accept it for XOR cases too
    is_preset: bool = False  # the command line always has a value
    without_value: str = ""  # as typed; the value of the option if it is given without one
    needs: tuple[RelatedOption, ...] = ()
    excludes: tuple[RelatedOption, ...] = ()

    @property
    def flag(self) -> str:
        """Return the name on the command line."""
        return flag(self.name)

    def help(self, command: str) -> str:
        """Return the help text for a command."""
        about = self.help_by_command.get(command, self.about)
        if self.default is not None and "[" not in about:
            defaults = (f"; {text} each with {flag(n)}" for n, text in self.default_with.items())
            about = f"{about[:-1]} [{''.join([self.default, *defaults])}]{about[-1]}"
        if command == "check" or self.is_for_cases or command in self.help_by_command:
            return about
        return f"With CMD: {about[0].lower()}{about[1:]}"

    def is_given(self, value: object) -> bool:
        """Whether a value, after reading, shows that the option was given."""
        if self.kind.is_flag:
            return bool(value != self.kind.from_text(self.name, False))
        return value is not None and value != ()

    def python_value(self, value: Any) -> Any:
        """Read a value from Python; raises `BadOption`, which names the keyword."""
        is_absent = value is None and self.python.endswith("| None")
        return None if is_absent else self.kind.from_python(self.name, value)

    def default_for(self, values: Mapping[str, Any]) -> Any:
        """Return the value of the option if it is not given."""
        texts = (text for name, text in self.default_with.items() if values[name] is not None)
        text = next(texts, self.default)
        return None if text is None else self.kind.from_text(self.flag, text)


CHECK: Final = ("check",)
EXPLAIN: Final = ("explain",)
TRACE: Final = ("trace",)
BOTH: Final = ("check", "explain")
ALL: Final = ("check", "explain", "trace")
EITHER_TIMEOUT: Final = "Wait at most S seconds for an answer [120] or for a run of CMD [3600]."
NEEDS_AGAINST: Final = (RelatedOption("against", metavar="CMD"),)
IN_TURN: Final = OptionText(
    "check --kill-after 12 --resume 'python train.py --resume' -- python train.py",
    "check('python train.py', resume='python resume.py', kill_after=12)",
)


def not_resumed(hint: str) -> tuple[RelatedOption, ...]:
    """Exclude an option from a check with --resume."""
    return (RelatedOption("resume", OptionText(hint, ""), leads_in_python=True),)


PROGRAM_OPTIONS: Final = (
    Option(
        "against", AGAINST, "Also run CMD, and compare its results and speed.", CHECK, "CMD",
        python="Trainable | None",
        excludes=tuple(map(RelatedOption, ("resume", "kill_after", "kill_in_save"))),
    ),
    Option("against", AGAINST, "Find the switches for results identical to CMD.", EXPLAIN, "CMD"),
    Option(
        "env", VARIABLES, "Also try NAME=VALUE as a switch.", EXPLAIN, "NAME=VALUE",
        request_field="variables",
    ),
    Option(
        "processes", whole(2, 64), "Run CMD N times.", CHECK, "N", "2", {"against": "8"},
        python="int | None", excludes=not_resumed("give more --kill-after"),
    ),
    Option(
        "processes", whole(FIRST_RUNS, 64), "Estimate from N runs how often CMD differs.", EXPLAIN,
        "N", str(MOST_RUNS),
    ),
    Option("max_runs", whole(FIRST_RUNS, 100_000), "Stop after N runs.", EXPLAIN, "N", "100"),
    Option("no_cost", OFF, "Do not time steps with the fix.", EXPLAIN, request_field="cost"),
    Option(
        "up_to_rounding", FLAG, "With --against: allow differences that rounding explains.", CHECK,
        python="bool", needs=NEEDS_AGAINST,
        excludes=tuple(
            map(RelatedOption, ("processes", "skip", "threshold", "speed_only", "turns", "pages"))
        ),
    ),
    Option(
        "up_to_rounding", FLAG,
        "With --against: find the operator in which a difference beyond rounding begins.", EXPLAIN,
        needs=NEEDS_AGAINST,
        excludes=tuple(map(RelatedOption, ("processes", "max_runs", "no_cost", "skip", "env"))),
    ),
    Option("up_to_rounding", FLAG, "Record sketches, and four more runs with noise.", TRACE),
    Option(
        "operators", Kind(partial(parse.integers, low=0, high=LARGEST), _numbered_steps),
        "Compare every operator of STEPS, such as 0,3, with a float64 reference [0,1].", CHECK,
        "[STEPS]", python="bool | int | Sequence[int] | None", without_value="0,1",
        excludes=tuple(map(RelatedOption, ("against", "resume", "processes", "files"))),
    ),
    Option(
        "known_defects", Kind(partial(parse.word, choices=("fail", "ok"))),
        "With --operators: whether known defects of PyTorch fail.", CHECK, "fail|ok", "fail",
        python="str | None", needs=(RelatedOption("operators", metavar="STEPS"),),
    ),
    Option(
        "skip", whole(0, 1_000_000), "With --against: do not time the first N steps.", CHECK, "N",
        "3", python="int | None", needs=NEEDS_AGAINST,
    ),
    Option("skip", whole(0, 1_000_000), "Do not time the first N steps.", EXPLAIN, "N", "3"),
    Option(
        "threshold", text_or_number(parse.share), "With --against: fail if slower by more than X.",
        CHECK, "X", "5%", python="float | str | None", needs=NEEDS_AGAINST,
    ),
    Option(
        "bits_only", OFF, "With --against: compare only the bits.", CHECK, request_field="speed",
        python="bool", needs=NEEDS_AGAINST, excludes=(RelatedOption("speed_only"),),
    ),
    Option(
        "speed_only", OFF, "With --against: compare only the speed.", CHECK, request_field="bits",
        python="bool", needs=NEEDS_AGAINST,
    ),
    Option(
        "turns", Kind(partial(parse.word, choices=("auto", "off"))),
        "With --against: time both turn by turn if possible (auto), or one after the other (off).",
        CHECK, "MODE", "auto", python="str | None", needs=NEEDS_AGAINST,
    ),
    Option(
        "pages", Kind(partial(parse.word, choices=("huge", "default"))),
        "With --against: time with huge pages for malloc if possible (huge), or without (default).",
        CHECK, "KIND", "huge", python="str | None", needs=NEEDS_AGAINST,
    ),
    Option(
        "waiting", Kind(partial(parse.word, choices=("sleep", "default"))),
        "With --against: let waiting OpenMP threads sleep (sleep), or spin as usual (default).",
        CHECK, "HOW", "sleep", python="str | None", needs=NEEDS_AGAINST,
    ),
    Option(
        "ranks", Kind(_numbers_of_ranks, _several_counts),
        "Compare CMD on each number of ranks in LIST, such as 1,2. CMD contains {ranks}.", CHECK,
        "LIST", python="Sequence[int] | None",
        excludes=tuple(map(RelatedOption, ("against", "resume", "processes", "files"))),
    ),
    Option(
        "loss", Kind(partial(parse.word, choices=("mean", "sum"))),
        "With --ranks: the loss is the mean or the sum of the losses of the ranks.", CHECK, "KIND",
        python="str | None", needs=(RelatedOption("ranks", metavar="LIST"),),
    ),
    Option(
        "steps", whole(1, LARGEST), "Stop each run after K optimizer steps.", ALL, "K",
        python="int | None",
    ),
    Option("detail", DETAIL, "Record details of STEPS, such as 7-9.", TRACE, "STEPS"),
    Option(
        "folder", Kind(_existing_folder), "Run in this folder.", (),
        python="str | os.PathLike[str] | None",
    ),
    Option(
        "in_place", FLAG, "Run in this folder, not in copies.", BOTH, python="bool",
        excludes=not_resumed("each run needs its own copy"),
    ),
    Option(
        "exclude", SEVERAL, "Do not copy paths that match GLOB.", BOTH, "GLOB",
        python="Sequence[str]",
    ),
    Option(
        "link", SEVERAL, "Link PATH into the copies, for reading only.", BOTH, "PATH",
        python="Sequence[str]",
    ),
    Option(
        "max_copy", SIZE, "Refuse to copy more than SIZE.", BOTH, "SIZE", "1GB", python="int | str",
    ),
    Option(
        "max_record", SIZE, "Stop recording at SIZE.", ALL, "SIZE", "1GB", python="int | str",
    ),
    Option(
        "timeout", text_or_number(partial(parse.positive, high=parse.LONGEST_RUN_S)),
        "Wait at most S seconds for a run of CMD.", ALL, "S", "3600",
        help_by_command={"explain": EITHER_TIMEOUT, "trace": EITHER_TIMEOUT},
        request_field="timeout_s", python="float", is_for_cases=True,
    ),
    Option(
        "files", FLAG, "Fail if the runs save different files.", CHECK, python="bool",
    ),
    Option("with_source", FLAG, "Show source lines next to line numbers.", CHECK, python="bool"),
    Option(
        "with_source", FLAG, "Store source lines in the trace.", TRACE,
        needs=(RelatedOption("detail", "source lines are part of the details of steps", "STEPS"),),
    ),
    Option(
        "anonymous", FLAG, NO_NAMES, ALL,
        help_by_command={"explain": NO_NAMES}, python="bool",
    ),
    Option(
        "kill_after", Kind(partial(parse.integers, low=1, high=LARGEST), _steps),
        "Kill after each number of steps in LIST, such as 5,12. Needs --resume.", CHECK, "LIST",
        python="int | Sequence[int] | None", needs=(RelatedOption("resume", IN_TURN),),
    ),
    Option(
        "kill_in_save", FLAG,
        "Kill while a checkpoint is saved, at each place in turn. Needs --resume.", CHECK,
        python="bool", needs=(RelatedOption("resume", IN_TURN),),
    ),
    Option(
        "resume", command("give the command that resumes the training"),
        "Resume the training with CMD. Needs --kill-after or --kill-in-save.", CHECK, "CMD",
        python="Trainable | None",
        needs=(RelatedOption("kill_after", IN_TURN, alternative="kill_in_save"),),
    ),
    Option(
        "from", PATH, "Re-evaluate the stored records of an earlier check in DIR.", CHECK, "DIR",
    ),
    Option(
        "dry_run", FLAG, "Print the plan, run nothing.", BOTH,
    ),
    Option(
        "out", FOLDER, "Store results in DIR.", ALL, "DIR", "results", request_field="root",
        python="str | os.PathLike[str]", is_for_cases=True, is_preset=True,
    ),
    Option("name", Kind(parse.name), "Name the result NAME.", BOTH, "NAME", python="str | None"),
)  # fmt: skip


def options_of(command: str) -> dict[str, Option]:
    """Return the options of a command, by name."""
    return {row.name: row for row in PROGRAM_OPTIONS if command in row.commands}


PYTHON_OPTIONS: Final = {row.name: row for row in PROGRAM_OPTIONS if row.python}


def complete(options: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a request's fields; raises `BadOption` for a refused combination.

    `values` holds the converted values by option name, None for each option not given.
    """
    require_allowed(options, values)
    return {
        row.request_field or name: row.default_for(values) if values[name] is None else values[name]
        for name, row in options.items()
    }


def require_allowed(options: Mapping[str, Option], values: Mapping[str, Any]) -> None:
    """Raise `BadOption` if an option lacks a needed option, or meets an excluded one."""
    given = {name for name, row in options.items() if row.is_given(values[name])}
    for name in filter(given.__contains__, options):
        for related in options[name].needs:
            if given.isdisjoint({related.name, related.alternative}):
                needed = option(related.name, related.metavar)
                if related.alternative:
                    needed = option_text(
                        "{needed} or {other}", needed=needed, other=option(related.alternative)
                    )
                message = option_text("{name}: needs {needed}", name=option(name), needed=needed)
                raise BadOption(message, related.hint)
        for related in options[name].excludes:
            if related.name in given:
                raise BadOption(_apart(name, related), related.hint)


def _apart(name: str, related: RelatedOption) -> OptionText:
    message = "{first}: cannot be given with {second}"
    first, second = option(name), option(related.name)
    if related.leads_in_python:
        first, second = OptionText(first, related.name), OptionText(second, name)
    return option_text(message, first=first, second=second)


def request(kind: type[Request], values: Mapping[str, Any], **more: Any) -> Request:
    """Make a request from the values that match its fields; `more` takes precedence."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: values[name] for name in values.keys() & names}, **more})
