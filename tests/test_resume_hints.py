"""The hint of a resume names all lost state, and the lines that keep, save and load it."""

from textwrap import dedent

import pytest

from xorbench.programs.kills import Kill
from xorbench.programs.lost_state import Resumed
from xorbench.programs.questions.resume import HINTS, KillTrial, conclude
from xorbench.programs.resume_hints import resume_hint, role_of
from xorbench.recorder.kept_state import kept_state_of
from xorbench.records.trace import TracedSource

LOOP = """
import torch
{before}
if resumed:
    state = torch.load("last.pt")
    model.load_state_dict(state["model"])
    start = state["step"]
{restores}
for step in range(start, 10):
    loss = train(step)
{loop}
    torch.save({{"model": model.state_dict(), "step": step}}, "last.pt")
"""


def kept(before: str = "", restores: str = "", loop: str = "") -> list[tuple[str, str]]:
    """The kind and the name of the state that a training does not restore."""
    parts = {"before": before, "restores": f"    {restores}", "loop": f"    {loop}"}
    sources = kept_state_of(dedent(LOOP).format(**parts))
    return [(s.kind, s.name) for s in sources if s.kind not in ("load", "save", "restore")]


@pytest.mark.parametrize(
    ("before", "loop", "expected"),
    [
        ("patience = 0", "patience += 1", ("state", "patience")),
        ("best = 9", "if loss < best: best = loss", ("state", "best")),
        ("replay = []", "replay.append(loss)", ("state", "replay")),
        ("order = torch.Generator().manual_seed(1)", "", ("generator", "order")),
        ("rates = StepLR(optimizer, 2)", "", ("scheduler", "rates")),
        ("mean = 0", "mean = 0.9 * mean + loss", ("state", "mean")),
        ("ema = {}", "ema['a'].mul_(0.9).add_(loss)", ("state", "ema")),
        ("table = {}", "table[step] = loss", ("state", "table")),
        ("scaler = torch.amp.GradScaler()", "", ("loss scaler", "scaler")),
    ],
)
def test_state_that_is_not_restored_is_found(
    before: str, loop: str, expected: tuple[str, str]
) -> None:
    """A counter, the best metric, a buffer, and objects with state."""
    assert kept(before, loop=loop) == [expected]


@pytest.mark.parametrize(
    ("before", "restores", "loop"),
    [
        ("patience = 0", 'patience = state["patience"]', "patience += 1"),
        ("best = 9", 'best = state.get("best", 9)', "if loss < best: best = loss"),
        ("replay = []", 'replay.extend(state["replay"])', "replay.append(loss)"),
        ("r = torch.Generator()", 'r.set_state(state["order"])', ""),
        ("rates = StepLR(optimizer, 2)", 'rates.load_state_dict(state["rates"])', ""),
        ("", "", "total = 0\n    total += loss"),
        ("start = load()\ndef load(): return torch.load('a')", "", "start += 1"),
        ("", "", "for x in data: x = x + 1"),
        ("class A:\n def f(self): g = torch.Generator()", "", ""),
        ("class A:\n def f(self): self.n += 1", 'a.n = state["n"]', ""),
    ],
)
def test_restored_state_is_not_listed(before: str, restores: str, loop: str) -> None:
    """Also a variable that each iteration sets."""
    assert kept(before, restores, loop) == []


def test_the_line_that_defines_the_state_is_named() -> None:
    """In the constructor, not in the method that changes it; two classes may have it."""
    text = """
    class Stopping:
        def __init__(self):
            self.bad = 0
        def update(self, loss):
            if loss > 1: self.bad += 1
    class Memory:
        def __init__(self):
            self.items = []
        def push(self, item):
            self.items.append(item)
        bad = 0
    """
    places = [(s.name, s.line, s.within) for s in kept_state_of(dedent(text))]
    assert places == [("self.bad", 4, ""), ("self.items", 9, "collection")]


def test_the_lines_that_save_and_load_are_noted() -> None:
    """One of each."""
    text = LOOP.format(before="", restores="", loop="")
    assert {s.kind for s in kept_state_of(text)} == {"load", "save"}


def source(kind: str, name: str, where: str) -> TracedSource:
    """A note of the recorder."""
    return TracedSource(kind=kind, name=name, where=where)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("best_loss", "early stopping or the best metric"),
        ("self.patience", "early stopping or the best metric"),
        ("replay", "a replay or shuffle buffer"),
        ("curriculum_level", "a curriculum"),
        ("self.running_mean", "a normalizer"),
        ("global_step", "a counter"),
        ("x", ""),
    ],
)
def test_the_role_of_a_variable_follows_from_its_name(name: str, role: str) -> None:
    """The words of the field."""
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("number of steps", "best"),
        ("data order", "replay"),
        ("forward", "running_mean"),
        ("hyperparameters", "patience"),
    ],
)
def test_the_likely_state_of_a_component_comes_first(component: str, name: str) -> None:
    """With its line."""
    notes = [source("state", "x", "a.py:2"), source("state", name, "a.py:7")]
    hint = resume_hint(HINTS[component], component, 1, notes)
    assert hint.index(f"{name} (") < hint.index("x at a.py:2")
    assert "a.py:7" in hint


def test_identical_weights_after_the_resume_are_not_blamed_on_the_checkpoint() -> None:
    """After four identical steps, the whole state_dict was restored."""
    hint = resume_hint(HINTS["weights"], "weights", 4, [source("load", "torch.load", "a.py:5")])
    assert "whole state_dict" not in hint
    assert "wrapper" in hint
    assert "it loads at a.py:5" in hint
    assert "whole state_dict" in resume_hint(HINTS["weights"], "weights", 0, [])


def test_a_restored_generator_that_differs_is_used_by_lost_state() -> None:
    """It is restored, so a different number of draws is the cause; a collection is a buffer."""
    items = TracedSource(kind="state", name="items", where="a.py:7", within="collection")
    notes = [source("state", "x", "a.py:2"), items]
    usual = HINTS["generators"]
    assert "a.py:7" not in resume_hint(usual, "generators", 1, notes)
    hint = resume_hint(usual, "generators", 1, [*notes, source("restore", "setstate", "a.py:4")])
    assert "items (a replay or shuffle buffer) at a.py:7, x at a.py:2" in hint


def test_all_lost_state_is_listed() -> None:
    """The optimizer's state and a generator, with the advice for both."""
    result = Resumed(
        4,
        3,
        "weights",
        component="optimizer state",
        text="the optimizer state (exp_avg) is empty",
        differs_at=3,
        further=(("generators", "generator torch cpu"),),
    )
    conclusion = conclude([KillTrial(Kill(4), resumed=result)])
    assert dict(conclusion.details) == {"also not restored": "generator torch cpu"}
    assert "optimizer.state_dict()" in conclusion.hint
    assert "torch.get_rng_state()" in conclusion.hint
