"""How the recorder waits for a module: what it does to the import, and what it leaves alone."""

import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xorbench.recorder.entry import after_import

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
def test_a_module_is_imported_without_collections_which_are_then_as_before(collects: bool) -> None:
    """They would walk what is there to stay; a program that has turned them off keeps them off."""
    told: list[str] = []
    after_import(NAME, lambda: told.append(NAME))
    if not collects:
        gc.disable()
    assert importlib.import_module(NAME).COLLECTS is False
    assert (gc.isenabled(), told) == (collects, [NAME])


def test_an_import_that_fails_leaves_collections_on_and_can_be_tried_again(module: Path) -> None:
    """What waits is called once the module is there."""
    told: list[str] = []
    after_import(NAME, lambda: told.append(NAME))
    good = module.read_text()
    module.write_text("raise RuntimeError('not today')")
    with pytest.raises(RuntimeError, match="not today"):
        importlib.import_module(NAME)
    assert (gc.isenabled(), told) == (True, [])
    module.write_text(good)
    importlib.invalidate_caches()
    importlib.import_module(NAME)
    assert told == [NAME]
