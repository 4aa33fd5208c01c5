"""docs/tutorial.md shows parts of examples/xor.py, and the output of the script."""

import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import once
from PIL import Image
from reference import digest

from xorbench.records.schema.run import Run

ROOT = Path(__file__).parent.parent
SCRIPT = (ROOT / "examples" / "xor.py").read_text()
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
LESSONS = (ROOT / "examples" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Trained:
    """What the commands of the page leave: the output of the script and its files."""

    output: str
    folder: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The script and its pictures, from the commands of the page, in a copy of the examples."""

    def make(folder: Path) -> None:
        for name in ("xor.py", "xor_plot.py"):
            shutil.copy(ROOT / "examples" / name, folder)
        for name, words in {
            "output": ("xor.py", "--device", "cpu"),
            "plots": ("xor_plot.py",),
        }.items():
            done = subprocess.run(
                [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=True
            )
            (folder / name).write_text(done.stdout)

    folder = once(tmp_path_factory, "tutorial", make)
    return Trained((folder / "output").read_text(), folder)


@pytest.mark.parametrize("code", blocks("python"))
def test_a_code_block_is_a_part_of_the_script(code: str) -> None:
    """Line by line, at one indentation."""
    whole = [textwrap.indent(code, " " * depth, lambda _line: True) for depth in (0, 4)]
    assert any(f"\n{part}" in SCRIPT for part in whole)


def test_the_output_on_the_page_is_that_of_the_script(trained: Trained) -> None:
    """All of it, in the order of the script."""
    assert "".join(blocks("text")) == trained.output


def test_the_script_trains_the_weights_of_the_harness(trained: Trained, quick_run: Run) -> None:
    """The saved file has the digest of the same case of a run on this machine."""
    state = torch.load(trained.folder / "xor.pt", weights_only=True)
    (expected,) = {t.weights_sha256 for t in quick_run.trainings if t.case.drop_last}
    assert digest(state) == expected


@pytest.mark.parametrize("name", ["xor-data.png", "xor-boundary.png"])
def test_a_picture_is_that_of_its_command(name: str, trained: Trained) -> None:
    """The same picture up to the fonts of the machine: at most 2% of its pixels differ."""
    made, shown = (
        Image.open(folder / name).convert("L") for folder in (trained.folder, ROOT / "docs")
    )
    assert made.size == shown.size
    pixels = zip(made.tobytes(), shown.tobytes(), strict=True)
    assert sum(abs(a - b) > 32 for a, b in pixels) <= 0.02 * made.width * made.height


def test_the_page_links_each_lesson_by_its_name() -> None:
    """The text links every test of a statement and no other name; the table links its line."""
    lines = (ROOT / "examples" / "lessons.py").read_text().splitlines()
    table = re.findall(r"^\| \[`test_(\w+)`\]\(lessons.py#L(\d+)\)", LESSONS, re.MULTILINE)
    assert all(lines[int(line) - 1].startswith(f"def test_{name}(") for name, line in table)
    assert len(table) == 17
    assert set(re.findall(r"\[`([^`]+)`\]\[lessons\]", PAGE)) == {name for name, _ in table}
