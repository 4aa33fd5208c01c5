"""`check --kill-in-save`: the kills, the checkpoints that they leave, and the answers."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import Xorbench
from test_resume import STEPS, WHOLE, record

from xorbench.programs import kills
from xorbench.programs.kills import Kill, mixed_text, not_applicable, refused
from xorbench.programs.questions.resume import KillTrial, conclude
from xorbench.recorder.interrupted_save import PLACES, InterruptedSave
from xorbench.records.trace import PresenceLine


class Died(Exception):
    """The process would have died at this file."""


class Saver:
    """A training that saves files in a folder."""

    def __init__(self, where: str, folder: Path) -> None:
        """Nothing is saved yet."""
        self.folder, self.step = folder, 0
        self.interrupted = InterruptedSave(where, lambda: self.step, self._die)

    def save(self, *names: str, step: int) -> None:
        """Save files after a step, in place."""
        self.step = step
        for name in names:
            saving = self.interrupted.wrapped(lambda path: Path(path).write_text("whole"), _path)
            saving(str(self.folder / name))

    def rename(self, name: str, new: str) -> None:
        """Rename a saved file."""
        self.interrupted.renaming(str(self.folder / name), str(self.folder / new))
        (self.folder / name).replace(self.folder / new)

    def _die(self, path: str) -> None:
        raise Died(Path(path).name)


def _path(arguments: dict[str, Any]) -> str:
    return str(arguments["path"])


def test_the_question_has_the_places_of_the_recorder() -> None:
    """Each place has a text, and the names are equal."""
    assert tuple(kills.SAVE_KILLS) == PLACES


def test_files_saved_before_the_first_step_are_no_checkpoint(tmp_path: Path) -> None:
    """So that the first checkpoint of the training is never interrupted."""
    saver = Saver("part", tmp_path)
    saver.save("vocabulary.pt", step=0)
    saver.save("last.pt", step=2)
    with pytest.raises(Died, match="last"):
        saver.save("last.pt", step=4)
    state = saver.interrupted.state
    assert state == {"step": 4, "older_step": 2, "older_is_complete": False}


def test_a_rename_gives_a_file_its_new_name(tmp_path: Path) -> None:
    """The older checkpoint is complete until the new one replaces it."""
    saver = Saver("part", tmp_path)
    saver.save("last.tmp", step=2)
    saver.rename("last.tmp", "last.pt")
    with pytest.raises(Died, match=r"last\.tmp"):
        saver.save("last.tmp", step=4)
    assert saver.interrupted.state["older_is_complete"]


def test_a_deleted_checkpoint_is_not_complete(tmp_path: Path) -> None:
    """It is deleted before the new one has its name."""
    saver = Saver("rename", tmp_path)
    saver.save("last.tmp", step=2)
    saver.rename("last.tmp", "last.pt")
    saver.save("last.tmp", step=4)
    (tmp_path / "last.pt").unlink()
    with pytest.raises(Died):
        saver.rename("last.tmp", "last.pt")
    assert not saver.interrupted.state["older_is_complete"]


def test_the_rename_of_an_older_checkpoint_is_not_a_save(tmp_path: Path) -> None:
    """It is rotated away, and then the new one is saved."""
    saver = Saver("rename", tmp_path)
    for step in (2, 4, 6):
        if step > 2:
            saver.step = step
            saver.rename("last.pt", "previous.pt")
        saver.save("last.pt", step=step)
    assert saver.interrupted.state == {"step": 6, "older_step": 4, "older_is_complete": True}


def test_the_second_file_is_cut(tmp_path: Path) -> None:
    """The first one is complete; two files that are renamed in turn from one name are two."""
    saver = Saver("second", tmp_path)
    saver.save("model.pt", "optimizer.pt", step=2)
    with pytest.raises(Died, match="optimizer"):
        saver.save("model.pt", "optimizer.pt", step=4)
    assert (tmp_path / "model.pt").read_text() == "whole"
    assert (tmp_path / "optimizer.pt").read_text() == "wh"
    saver = Saver("between", tmp_path)
    for step in (2, 4):
        saver.save("saving.tmp", step=step)
        saver.rename("saving.tmp", "model.pt")
    with pytest.raises(Died, match="tmp"):
        saver.save("saving.tmp", step=4)


# Mixed checkpoints


def mixes(changed: dict[str, Any], first: int = 6, newer: int = 6, older: int = 4) -> str:
    """The text for a run that resumes at a step with other state changed."""
    resumed = record(first, changed={first: changed})
    return mixed_text(WHOLE, resumed, newer, older, later_weights=False)


def test_weights_of_the_new_and_state_of_the_old_save_are_mixed() -> None:
    """Both steps are named."""
    text = mixes({"state/o0.g0.p0.exp_avg": "average4", "state/o0.g0.p0.step": "count4"})
    assert text.startswith("the checkpoint mixes two saves: weights,")
    assert text.endswith("of step 6, optimizer state of step 4")


def test_two_shards_of_the_weights_are_mixed() -> None:
    """One parameter is older than the others."""
    assert "weights of step 4" in mixes({"parameter/o0.g0.p1": "bias4"})


def test_a_batch_of_a_third_step_is_not_mixed() -> None:
    """The data order restarted, which is reported as such; nor is an exact resume mixed."""
    assert mixes({"batch/c0[0]": "batch0"}) == ""
    assert mixes({}) == ""
    assert mixes({}, first=4) == ""


def test_weights_saved_after_the_last_step_are_mixed() -> None:
    """If training continues before it."""
    resumed = record(4)
    text = mixed_text(WHOLE, resumed, STEPS, 4, later_weights=True)
    assert "weights saved after all 8 steps" in text
    assert mixed_text(WHOLE, resumed, STEPS, 4, later_weights=False) == ""


# Answers


def absent(place: str) -> KillTrial:
    """The trial at a place that no save has."""
    kill = Kill(place=place)
    return KillTrial(kill, absent="absent", trouble=not_applicable(kill, "absent"))


def test_no_applicable_place_is_inconclusive() -> None:
    """Fewer than two checkpoints; a single missing place is skipped."""
    assert conclude([absent(place) for place in PLACES]).outcome == "inconclusive"
    assert not_applicable(Kill(place="rename"), "absent").outcome == "skipped"


def test_a_refused_checkpoint_is_named() -> None:
    """The hint depends on the older checkpoint."""
    death = PresenceLine(pid=1, event="died_in_save", path="/a/last.pt", step=8, older_step=4)
    answer = refused(Kill(place="part"), death, "EOFError")
    assert "the save of last.pt overwrote the only checkpoint" in answer.finding
    assert "os.replace" in answer.hint
    kept = PresenceLine(
        pid=1, event="died_in_save", path="a", step=8, older_step=4, older_is_complete=True
    )
    answer = refused(Kill(place="part"), kept, "EOFError")
    assert "although the checkpoint saved after 4 steps is complete" in answer.finding
    assert "load the one before" in answer.hint


# Real runs

SCRIPT = """
import os, sys, torch

torch.manual_seed(0)
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start, save = 0, sys.argv[1]
if sys.argv[2:]:
    state = torch.load("last.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]
for step in range(start, 6):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    if (step + 1) % 2 == 0 and (save != "once" or step == 1):
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1}, "new.pt" if save == "replace" else "last.pt")
        if save == "replace":
            os.replace("new.pt", "last.pt")
"""


@pytest.fixture
def train(tmp_path: Path, inside: Xorbench) -> Any:
    """Kill a training within a save; returns the answer as JSON, and the exit code."""

    def run(save: str, *options: str) -> tuple[Any, int]:
        (tmp_path / "train.py").write_text(SCRIPT)
        script = [sys.executable, "train.py", save]
        resume = shlex.join([*script, "resume"])
        words = ("--kill-in-save", *options, "--resume", resume, "--", *script)
        done = inside("check", "--json", *words)
        return json.loads(done.stdout), done.returncode

    return run


@pytest.mark.variant
def test_a_replaced_checkpoint_passes(train: Any) -> None:
    """In a part of the file and before the rename; a single file has no second one."""
    answer, code = train("replace")
    assert (code, answer["outcome"]) == (0, "pass")
    outcomes = [verdict["outcome"] for verdict in answer["verdicts"]]
    assert outcomes == ["pass", "skipped", "skipped", "pass"]
    assert "resume is exact after each of 2 kills" in answer["sentence"]


def test_an_overwritten_checkpoint_fails(train: Any, tmp_path: Path, inside: Xorbench) -> None:
    """Also with a kill after steps, in JUnit, and from the records."""
    answer, code = train("overwrite", "--kill-after", "3", "--junit", "answer.xml")
    assert (code, answer["component"]) == (1, "checkpoint")
    assert "killed while it saved a file: the save of last.pt" in answer["sentence"]
    outcomes = [verdict["outcome"] for verdict in answer["verdicts"]]
    assert outcomes == ["pass", "fail", "skipped", "skipped", "skipped"]
    suite = ElementTree.parse(tmp_path / "answer.xml").getroot()
    assert [len(list(suite.iter(tag))) for tag in ("failure", "skipped")] == [1, 3]
    (folder,) = (tmp_path / "results" / "checks").iterdir()
    again = inside("check", "--from", str(folder), "--json")
    assert json.loads(again.stdout)["sentence"] == answer["sentence"]


def test_a_single_checkpoint_is_inconclusive(train: Any) -> None:
    """No save could be interrupted, and no further run is made."""
    answer, code = train("once")
    assert code == 3
    assert "fewer than two checkpoints were saved" in answer["sentence"]
    assert len(answer["runs"]) == 2
