"""The page of PyTorch releases, which is written from the stored results."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program that compares releases."""
    spec = importlib.util.spec_from_file_location("releases", ROOT / "bench" / "releases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "releases", module)  # its dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_written_from_the_stored_results(releases: ModuleType) -> None:
    """The committed pages are what `page` writes."""
    assert releases.PAGE.read_text() == releases.page(releases.read())
    assert releases.DEFECTS.read_text() == releases.defects_page(releases.read())


def test_every_operator_that_differs_is_on_the_page(releases: ModuleType) -> None:
    """With the trainings in which it is the first difference."""
    text = releases.PAGE.read_text()
    for release in releases.read():
        for answer in release.values.get("trainings bits", {}).values():
            if answer["outcome"] == "fail":
                assert releases.escape(releases._place(answer)) in text


def test_a_result_is_made_once_and_stored(
    releases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped command continues with the first result that is missing."""
    monkeypatch.setattr(releases, "DATA", tmp_path)
    releases.Release.read("2.6").add("canary", lambda: {"exit_code": 0})
    again = releases.Release.read("2.6")
    again.add("canary", lambda: {"exit_code": 1})
    again.add_cases("operators", ["gpt"], lambda missing: [dict.fromkeys(missing, 1)])
    again.add_cases("operators", ["gpt", "cnn"], lambda missing: [dict.fromkeys(missing, 2)])
    assert releases.Release.read("2.6").values["canary"] == {"exit_code": 0}
    assert releases.Release.read("2.6").values["operators"] == {"gpt": 1, "cnn": 2}


def test_comparisons_with_another_release_are_made_again(
    releases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a release is inserted before it; its own results are kept."""
    monkeypatch.setattr(releases, "DATA", tmp_path)
    release = releases.Release("2.9", {"digests": {}, "previous": "2.6", "trainings bits": {}})
    release.require_previous("2.6")
    assert {"previous", "trainings bits"} <= release.values.keys()
    release.require_previous("2.8")
    assert release.values == {"digests": {}}
