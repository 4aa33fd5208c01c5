"""The hint of a first difference, derived from observations.

Each row of `RULES` names components and a function that returns a hint if its observation was made.
The first hint counts, so no row advises against an earlier observation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from xorbench.programs.components import COMPONENTS
from xorbench.programs.elements import Difference
from xorbench.programs.first_difference import FirstDifference
from xorbench.records.trace import TracedSource

SEED_CALLS: Final = {
    "python": "random.seed(0)",
    "numpy": "numpy.random.seed(0)",
    "torch cpu": "torch.manual_seed(0)",
}
TORCH: Final = "torch"
ELSEWHERE: Final = (
    "the program's own numpy.random.Generator, random.Random or torch.Generator, threads, the time,"
    " os.urandom, or the order of a set or of hashes (PYTHONHASHSEED)"
)
MOST_PLACES: Final = 3  # in one hint
ORDERS: Final = ("set", "hash", "listing", "completion")
UNSEEDED: Final = ("unseeded",)
NAMES: Final = ("file name", "process id")
VARYING: Final = ("time", "unseeded", "hash", *NAMES)  # as a seed

DATA: Final = ("batch", "input", "data")
COMPUTED: Final = ("forward", "gradients", "buffers", "loss", "update")
EVERYWHERE: Final = tuple(COMPONENTS)


@dataclass(frozen=True, slots=True)
class Observations:
    """The observations that a hint follows from.

    Attributes:
        component: the component that differs first.
        first: the first difference.
        near: the same with detailed recording, or `first`.
        element: the difference of its tensors, if their values were recorded.
        sources: the notes of both runs on their seeds and on the sources of the program.
    """

    component: str
    first: FirstDifference
    near: FirstDifference
    element: Difference | None = None
    sources: tuple[Sequence[TracedSource], Sequence[TracedSource]] = ((), ())

    @property
    def line(self) -> str:
        """The line that made the tensor or called the operator; empty if unknown."""
        return self.near.event.more.made or self.near.event.more.where

    @property
    def own_random(self) -> bool:
        """Whether an operator drew numbers although no generator of PyTorch differs."""
        differ = any(name.startswith(TORCH) for name in self.first.generators)
        return self.near.event.more.random and not differ

    @property
    def computed(self) -> bool:
        """Whether an operator with identical inputs computed the difference."""
        return self.component in COMPUTED and bool(self.near.event.more.name)

    def seeds(self, generator: str) -> tuple[TracedSource | None, TracedSource | None]:
        """The last seed of a generator before the difference, in both runs."""
        sides = [
            [
                source
                for source in side
                if source.kind == "seeded"
                and source.step <= self.first.step
                and (source.name == generator or _of_torch(source.name, generator))
            ]
            for side in self.sources
        ]
        a, b = (max(side, key=lambda source: source.step, default=None) for side in sides)
        return a, b

    def of_kinds(self, kinds: Iterable[str], within: str = "") -> list[TracedSource]:
        """The sources of these kinds, by kind, then by line; the ones noted at run time first."""
        places: dict[str, TracedSource] = {}
        for kind in kinds:
            for source in self.sources[0]:
                if source.kind == kind and (not within or source.within == within):
                    places.setdefault(source.where, source)
        return list(places.values())

    def draws(self, generator: str) -> list[TracedSource]:
        """The places in the source that use a global generator."""
        return [s for s in self.of_kinds(["draw"]) if s.generator == generator]


def _of_torch(seeded: str, generator: str) -> bool:
    """`torch.manual_seed` seeds the generators of every device."""
    return seeded.startswith(TORCH) and generator.startswith(TORCH)


def hint_of(observed: Observations) -> str:
    """The hint of the first rule whose observation was made."""
    for components, rule in RULES:
        if observed.component in components and (hint := rule(observed)):
            return hint
    return COMPONENTS[observed.component].hint


# The rules


def _uninitialized(observed: Observations) -> str:
    """Memory that is read before it is written, or values that look like such memory."""
    if line := observed.near.event.more.uninitialized:
        return f"initialize the memory that is allocated at {line}: it is read before it is written"
    empties = observed.of_kinds(["empty"])
    at_line = any(_same_place(source.where, observed.line) for source in empties)
    garbage = observed.element is not None and observed.element.garbage
    seeded = None not in observed.seeds("torch cpu") and not observed.near.event.more.unseeded
    if not garbage and not (at_line and seeded and observed.component in ("parameters", "buffers")):
        return ""
    if at_line or not empties:
        place = f"at {observed.line}" if observed.line else "by torch.empty or to_empty"
    else:
        place = f"by {_places(empties)}"
    looks = "its values look like uninitialized memory" if garbage else "it is never written"
    return f"initialize the tensor that is made {place}: {looks}"


def _shapes(observed: Observations) -> str:
    """The runs made tensors of different shapes or types, so no seed of values explains it."""
    if observed.element is None or not observed.element.kinds:
        return ""
    made = f" made at {observed.line}" if observed.line else ""
    kinds = [*UNSEEDED, *ORDERS, *NAMES, "time"]
    places = observed.of_kinds(kinds) or observed.of_kinds(["draw"])
    look = f": {_places(places)}" if places else ""
    return f"look for the cause of the different shape of the tensor{made}{look}"


def _seed_too_late(observed: Observations) -> str:
    """The weight was made before the program seeded PyTorch."""
    seeds = observed.seeds("torch cpu")
    if not observed.near.event.more.unseeded or seeds[0] is None:
        return ""
    made = f"at {observed.line} " if observed.line else ""
    return (
        f"set the seed before the model is created: the tensor is made {made}before"
        f" torch.manual_seed at {seeds[0].where}"
    )


def _seeds_differ(observed: Observations) -> str:
    """The program sets a different seed in each run."""
    for name in _involved(observed):
        a, b = observed.seeds(name)
        if a is not None and b is not None and a.digest != b.digest:
            places = observed.of_kinds(VARYING, "seed") or observed.of_kinds(VARYING)
            places = [place for place in places if place.where != a.where]
            source = f"; it comes from {_places(places)}" if places else ""
            return f"use a fixed seed for {name} at {a.where}: it differs in the two runs{source}"
    return ""


def _generator(observed: Observations) -> str:
    """The program does not seed a generator that was used, or uses it a different number of times.

    Initial parameters and data may be drawn before step 0, which is not recorded.
    """
    names = observed.first.used
    if not names or (observed.computed and not observed.near.event.more.random):
        return ""
    advanced = [name for name in names if _seeded_alike(observed, name)]
    unseeded = [name for name in names if name not in advanced]
    return "; ".join(
        filter(None, (_to_seed(observed, unseeded), _advanced_text(observed, advanced)))
    )


def _own_generator(observed: Observations) -> str:
    """The program makes a generator without a seed."""
    places = observed.of_kinds(UNSEEDED)
    if not places or (observed.component in COMPUTED and not _draws(observed)):
        return ""
    text = f"seed the generator that has no seed: {_places(places)}"
    order = _order(observed) if observed.component in DATA else ""
    return f"{text}; if that does not help, {order}" if order else text


def _race(observed: Observations) -> str:
    """An operator drew different numbers, and threads may use its generator."""
    places = observed.of_kinds(["completion"])
    if not places or not observed.own_random:
        return ""
    return f"give each thread its own seeded generator: {_places(places)}"


def _order(observed: Observations) -> str:
    """The values depend on the order of a set, of hashes, of files or of completion."""
    places = observed.of_kinds(ORDERS)
    return f"make the order independent of the run: {_places(places)}" if places else ""


def _condition(observed: Observations) -> str:
    """A condition depends on the time or on a generator."""
    kinds = ("time", "draw", *UNSEEDED, *ORDERS)
    places = observed.of_kinds(kinds, "condition")
    if not places:
        return ""
    return f"{COMPONENTS['events'].hint}; the program decides by {_places(places)}"


def _differing_generator(observed: Observations) -> str:
    """A generator differs, and may have been used before step 0."""
    first = observed.first
    within_step = observed.component in ("data", "input", "forward")
    names = [n for n in first.generators if not _seeded_alike(observed, n)]
    if not names or (first.unused and within_step):
        return ""
    places = [place for name in names for place in observed.draws(name)]
    made = observed.component == "parameters" and "torch cpu" in names
    if observed.sources[0] and not places and not made:
        return ""
    noun = "generator that differs" if len(names) == 1 else "generators that differ"
    used = f", used at {_lines(places)}" if places else ""
    return (
        f"seed the {noun}: {_calls(names)}{used}; loader workers inherit the seed. If that does not"
        f" help, look for {ELSEWHERE}"
    )


def _elsewhere(observed: Observations) -> str:
    """No global generator explains the difference."""
    places = observed.of_kinds((*NAMES, "time", "empty"))
    look = _places(places) if places else ELSEWHERE
    made = f"; the tensor is made at {observed.line}" if observed.line else ""
    return f"no global generator explains this: look for {look}{made}"


def _unseeded_draws(observed: Observations) -> str:
    """The program uses a generator that it never seeds, before step 0."""
    names = [
        name
        for name in SEED_CALLS
        if observed.draws(name) and observed.seeds(name) == (None, None)
        if not observed.first.generators or name in observed.first.generators
    ]
    places = [place for name in names for place in observed.draws(name)]
    return f"seed {_calls(names)}: used at {_lines(places)}" if names else ""


def _values(observed: Observations) -> str:
    """The hyperparameters are computed from a value that differs."""
    places = observed.of_kinds(("time", *NAMES))
    usual = COMPONENTS["hyperparameters"].hint
    return f"{usual}: {_places(places)}" if places else ""


def _far_apart(observed: Observations) -> str:
    """The results differ by more than rounding, so no different order of a sum explains it."""
    if observed.component not in ("forward", "gradients") or not _far(observed.element):
        return ""
    names = [name for name in observed.first.used if not name.startswith(TORCH)]
    places = [place for name in names for place in observed.draws(name)]
    places += observed.of_kinds(["completion", "empty", *UNSEEDED])
    look = f": {_places(places)}" if places else ", such as uninitialized memory or a thread"
    at = f" at {observed.line}" if observed.line else ""
    return f"the results{at} differ by more than rounding: look for a different cause{look}"


def _operator(observed: Observations) -> str:
    """An operator gives different results for identical inputs."""
    parts = [COMPONENTS[observed.component].hint]
    parts += [f"the operator is called at {observed.line}"] if observed.line else []
    places = observed.of_kinds(["completion"])
    parts += [f"look at the order of completion: {_places(places)}"] if places else []
    return "; ".join(parts)


Rule = Callable[[Observations], str]
RULES: Final[tuple[tuple[Sequence[str], Rule], ...]] = (
    (("parameters", "buffers", "optimizer", *DATA, "forward", "gradients"), _uninitialized),
    (("parameters", *DATA), _shapes),
    (("parameters",), _seed_too_late),
    (("parameters", "optimizer", "hyperparameters", "buffers", *DATA, "forward"), _seeds_differ),
    (("parameters", "optimizer", "hyperparameters", "buffers", *DATA, *COMPUTED), _generator),
    (("optimizer", "hyperparameters", "parameters", *DATA, *COMPUTED), _own_generator),
    (("forward", "data", "optimizer"), _race),
    (("events", "hyperparameters"), _condition),
    (("order", "events", *DATA, "parameters", "hyperparameters", "optimizer", "loss"), _order),
    (("events", "hyperparameters", "loss", *DATA), _unseeded_draws),
    (("hyperparameters",), _values),
    (("parameters", *DATA), _differing_generator),
    (("parameters", *DATA), _elsewhere),
    (COMPUTED, _far_apart),
    (COMPUTED, _operator),
)


# Parts of rules


def _involved(observed: Observations) -> list[str]:
    """The generators that differ, used ones first; PyTorch's for initial parameters."""
    names = [*observed.first.used, *observed.first.generators]
    if observed.component == "parameters":
        names.insert(0, "torch cpu")
    return list(dict.fromkeys(names))


def _draws(observed: Observations) -> bool:
    """Whether the difference may come from a draw: by an operator, or in data of the loss."""
    return observed.own_random or (observed.component == "loss" and not observed.computed)


def _seeded_alike(observed: Observations, name: str) -> bool:
    a, b = observed.seeds(name)
    return a is not None and b is not None and a.digest == b.digest


def _to_seed(observed: Observations, names: Sequence[str]) -> str:
    """The generators to seed, and where they are used."""
    if not names:
        return ""
    are = "generator that was" if len(names) == 1 else "generators that were"
    lines = [observed.line] if observed.line and _draws_here_or_made(observed, names) else []
    lines += [place.where for name in names for place in observed.draws(name)]
    at = f" at {', '.join(list(dict.fromkeys(lines))[:MOST_PLACES])}" if lines else ""
    before = ""
    if observed.component == "parameters":
        before = f"{COMPONENTS['parameters'].hint}; "
    return f"{before}seed the {are} used{at}: {_calls(names)}"


def _draws_here_or_made(observed: Observations, names: Sequence[str]) -> bool:
    of_torch = any(name.startswith(TORCH) for name in names)
    return of_torch and (observed.near.event.more.random or observed.component == "parameters")


def _advanced_text(observed: Observations, names: Sequence[str]) -> str:
    """The seeds are identical, so a different number of draws is the cause."""
    texts = []
    for name in names:
        seed = observed.seeds(name)[0]
        at = f" at {seed.where}" if seed is not None else ""
        places = observed.of_kinds(("draw", "time"), "condition")
        places = observed.of_kinds(["completion", *UNSEEDED, "set", "listing"]) or places
        places += [place for place in observed.draws(name) if place not in places]
        look = f": {_places(places)}" if places else ""
        texts.append(
            f"{name} is seeded identically{at}, but was used a different number of times or in a"
            f" different order before the difference{look}"
        )
    return "; ".join(texts)


def _calls(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ({SEED_CALLS.get(name, 'its seed function')})" for name in names)


def _places(sources: Sequence[TracedSource]) -> str:
    """The first sources with their lines."""
    return ", ".join(f"{source.name} at {source.where}" for source in sources[:MOST_PLACES])


def _lines(sources: Sequence[TracedSource]) -> str:
    return ", ".join(source.where for source in sources[:MOST_PLACES])


def _same_place(place: str, line: str) -> bool:
    """Whether a line, which may be followed by its text, is this place."""
    return bool(line) and ":".join(line.split(":")[:2]) == place


FAR: Final = 1 << 20  # ulps


def _far(element: Difference | None) -> bool:
    return (
        element is not None
        and "float" in element.a.dtype
        and element.largest_ulps is not None
        and element.largest_ulps > FAR
        and element.far
    )
