"""Names of trace events for messages."""

import re
from collections.abc import Callable
from typing import Final

from xorbench.programs.first_difference import FirstDifference
from xorbench.records.trace import TraceEvent


def when(first: FirstDifference) -> str:
    """The place of a difference: its step, or the final state."""
    return "the final state" if first.event.kind.startswith("final") else f"step {first.step}"


def label(first: FirstDifference) -> str:
    """The event that differs, for a message."""
    if first.how == "events":
        a, b = map(_event_text, (first.a, first.b))
        if a == b and first.a and first.b:  # inputs of different operators of one name
            a, b = f"{a} ({first.a.identity})", f"{b} ({first.b.identity})"
        return f"the sequence of events: {a} in the first, {b} in the second"
    kind = first.event.kind.removeprefix("final ")
    return LABELS.get(kind, _weight)(first, first.event)


def _input(first: FirstDifference, event: TraceEvent) -> str:
    call = re.match(r"\w\d+", event.identity)
    number = call[0][1:] if call else ""
    path = event.identity[call.end() :] if call else event.identity
    source = "the batch" if event.kind == "batch" else f"an output of call {event.more.of}"
    name = f"input {path}" if path else "the input"
    made = f", made at {event.more.made}" if event.more.made else ""
    return f"{source} ({name} of {first.call or 'the model'}, call {number}{made})"


def _operator(_first: FirstDifference, event: TraceEvent) -> str:
    more = event.more
    if not more.name:
        return f"the {event.identity}"
    role = "the result of" if event.kind == "operator" else "an input of"
    side = ", in the backward pass," if more.backward else ""
    made = f", made at {more.made}" if more.made else ""
    return f"{role} {more.name}{side}{f' at {more.where}' if more.where else ''}{made}"


def _state(first: FirstDifference, event: TraceEvent) -> str:
    name = event.identity.rpartition(".")[2]
    return f"optimizer state {name} of {first.name or event.identity}"


def _weight(first: FirstDifference, event: TraceEvent) -> str:
    kind = event.kind.removeprefix("final ").removeprefix("new ")
    made = f", made at {event.more.where}" if event.more.where else ""
    return f"{kind} {first.name or event.identity}{made}"


LABELS: Final[dict[str, Callable[[FirstDifference, TraceEvent], str]]] = {
    "batch": _input,
    "input": _input,
    "operator": _operator,
    "data": _operator,
    "output": lambda _, event: f"the output of module {event.more.name}",
    "loss": lambda *_: "the loss",
    "hyperparameters": lambda first, event: (
        f"the hyperparameters of optimizer {event.identity[1:]} ({event.more.name})"
        f"{f': {first.values}' if first.values else ''}"
    ),
    "state": _state,
    "new state": _state,
}


def _event_text(event: TraceEvent | None) -> str:
    if event is None:
        return "no further event"
    return " ".join(filter(None, (event.kind, event.more.name or event.identity)))


def kind_in_plural(kind: str) -> str:
    """The plural name of a kind of events."""
    kind = kind.removeprefix("final ")
    names = {"batch": "batch inputs", "loss": "losses", "new state": "new states"}
    return names.get(kind, kind if kind.endswith("s") else f"{kind}s")
