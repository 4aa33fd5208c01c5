"""Commands that ran Python without the recorder, as the answer shows them."""

import json
import sys
from pathlib import Path

from conftest import call_in

from xorbench.programs.command_runs import without_recorder
from xorbench.records.ended import Ended


def started(folder: Path, *commands: str) -> list[str]:
    """The commands of a run that started these and loaded no recorder in them."""
    (folder / "records").mkdir()
    first = {"pid": 1, "event": "python", "argv": ["python", "a.py"], "parent": 0}
    lines = [first, *({"pid": 1, "event": "started", "command": text} for text in commands)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "records" / "presence.jsonl").write_text(text)
    return without_recorder([Ended(number=1, folder=folder, how="ended", code=0, wall_s=1.0)])


def test_a_command_of_several_lines_is_one_line(tmp_path: Path) -> None:
    """It is also shortened."""
    (line,) = started(tmp_path, "python -c import os\n" + "print(1)\n" * 50)
    assert line.startswith("python -c import os print(1)")
    assert len(line) <= 80


def test_the_processes_of_the_compiler_are_not_listed(tmp_path: Path) -> None:
    """It starts workers, and a process that loads a compiled library."""
    helpers = [
        "python -c \nfrom ctypes import cdll\ncdll.LoadLibrary(x)\n",
        "python __main__.py --pickler=torch._inductor.compile_worker.subproc_pool.SubprocPickler",
    ]
    assert started(tmp_path, *helpers, "python -I b.py") == ["python -I b.py"]


def test_a_replaced_pythonpath_is_the_commonest_cause(tmp_path: Path) -> None:
    """An absolute path does not reach the shim: the hint shows the line to write."""
    (tmp_path / "run.sh").write_text(f"PYTHONPATH=src {sys.executable} -c 'import torch'\n")
    done = call_in(tmp_path, "check", "--json", "--", "bash", "run.sh")
    assert done.returncode == 3, done.stderr
    assert "write PYTHONPATH=src:$PYTHONPATH" in json.loads(done.stdout)["hint"]
