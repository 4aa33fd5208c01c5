"""How the recorder waits for an import, and which written files it reports."""

import gc
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xorbench.recorder.entry import Presence, after_import, written_outside

NAME = "a_module_that_is_waited_for"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that notes whether Python collects garbage while it is imported."""
    path = tmp_path / f"{NAME}.py"
    path.write_text("import gc\nCOLLECTS = gc.isenabled()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop(NAME, None)
    gc.enable()


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.usefixtures("module")
def test_a_module_is_imported_without_garbage_collection(collects: bool) -> None:
    """Collection is restored afterwards; if the program disabled it, it stays disabled."""
    calls: list[str] = []
    after_import(NAME, lambda: calls.append(NAME))
    if not collects:
        gc.disable()
    assert importlib.import_module(NAME).COLLECTS is False
    assert (gc.isenabled(), calls) == (collects, [NAME])


def test_after_a_failed_import_collection_is_on_and_a_retry_works(module: Path) -> None:
    """The callback is called once the module is imported."""
    calls: list[str] = []
    after_import(NAME, lambda: calls.append(NAME))
    good = module.read_text()
    module.write_text("raise RuntimeError('not today')")
    with pytest.raises(RuntimeError, match="not today"):
        importlib.import_module(NAME)
    assert (gc.isenabled(), calls) == (True, [])
    module.write_text(good)
    importlib.invalidate_caches()
    importlib.import_module(NAME)
    assert calls == [NAME]


def test_a_file_that_pytorch_generates_is_not_reported(tmp_path: Path) -> None:
    """PyTorch 2.6 writes it into a temporary folder; the program's files are reported."""
    root, folder, outside = (tmp_path / name for name in ("root", "records", "outside"))
    folder.mkdir()
    hook = written_outside(str(root), str(folder), Presence(str(folder)))
    for path in (outside / "_remote_module_non_scriptable.py", root / "in.txt", outside / "a.txt"):
        hook("open", (str(path), "w", 0))
    lines = (folder / "presence.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == [str(outside / "a.txt")]
