"""The hint of a resume that is not exact: the state to restore, and the lines that load it."""

import re
from collections.abc import Sequence
from typing import Final

from xorbench.records.trace import TracedSource

MOST_PLACES: Final = 3  # in one hint
BUFFER: Final = "a replay or shuffle buffer"
# What a variable holds, by the words in its name.
ROLES: Final = {
    "an average of the weights": r"(^|[._])ema|shadow|average|teacher|target_net|swa",
    "early stopping or the best metric": "best|patience|bad|wait|improve|stale|early",
    BUFFER: "replay|memory|buffer|queue|pool|reservoir|window|history|deque",
    "a curriculum": "curriculum|difficulty|level|stage|horizon|temperature|beta|epsilon|anneal",
    "a normalizer": "mean|std|var|norm|stat|running|scale|shift|initialized",
    "a counter": "step|epoch|count|turn|iteration|done|position|cursor",
}
# The kinds of notes that explain a component, the most likely first.
KINDS: Final = {
    "data order": ("state", "generator"),
    "generators": (),
    "hyperparameters": ("scheduler", "state"),
    "number of steps": ("state",),
    "forward": ("state", "generator"),
    "gradients": ("state", "generator"),
    "loss scale": ("loss scaler", "state"),
    "another model": ("state",),
}
# The roles that explain a component, the most likely first.
LIKELY: Final = {
    "data order": (BUFFER, "a curriculum", "a normalizer", "a counter"),
    "generators": (BUFFER, "a curriculum"),
    "hyperparameters": ("early stopping or the best metric", "a curriculum", "a counter"),
    "number of steps": ("early stopping or the best metric", "a counter"),
    "forward": ("an average of the weights", "a normalizer", "a curriculum"),
    "gradients": ("an average of the weights", "a normalizer", "a curriculum"),
}
WRAPPER: Final = (
    "the weights were restored and are identical at first, so restore the state that changes them"
    " later, such as a wrapper of the optimizer or an average (EMA, SWA, Lookahead)"
)
RELOADS: Final = ("weights", "buffers", "optimizer state")  # restored by a load itself


def resume_hint(
    usual: str, component: str, identical_steps: int, sources: Sequence[TracedSource]
) -> str:
    """The hint for a component, from the notes on the state of the program.

    `usual` is the hint without them; `identical_steps` follow the resume.
    """
    if component in RELOADS and identical_steps:
        usual = WRAPPER
    kinds = ("state",) if usual is WRAPPER else KINDS.get(component, ())
    if component == "generators" and any(source.kind == "restore" for source in sources):
        kinds = ("state",)  # a different number of draws
    kept = _by_role([s for kind in kinds for s in sources if s.kind == kind], component)
    parts = [usual]
    if kept:
        places = ", ".join(f"{_with_role(s)} at {s.where}" for s in kept[:MOST_PLACES])
        parts.append(f"the program does not restore {places}")
    parts += _calls(sources)
    return "; ".join(parts)


def _calls(sources: Sequence[TracedSource]) -> list[str]:
    """The lines that load and save."""
    texts = []
    for kind, verb in (("load", "loads"), ("save", "saves")):
        lines = list(dict.fromkeys(s.where for s in sources if s.kind == kind))
        texts += [f"it {verb} at {', '.join(lines[:MOST_PLACES])}"] if lines else []
    return [", ".join(texts)] if texts else []


def role_of(name: str) -> str:
    """The role of a variable, from the words in its name; empty if unknown."""
    return next((role for role, words in ROLES.items() if re.search(words, name.lower())), "")


def _role(source: TracedSource) -> str:
    """The role of a variable; a collection that grows is a buffer."""
    return role_of(source.name) or (BUFFER if source.within == "collection" else "")


def _with_role(source: TracedSource) -> str:
    role = _role(source) if source.kind == "state" else source.kind
    return f"{source.name} ({role})" if role else source.name


def _by_role(sources: Sequence[TracedSource], component: str) -> list[TracedSource]:
    """The notes in the order in which they are likely; the order of `sources` if equally so."""
    likely = LIKELY.get(component, ())

    def place(source: TracedSource) -> int:
        role = _role(source)
        return likely.index(role) if role in likely else len(likely)

    return sorted(sources, key=place) if likely else list(sources)
