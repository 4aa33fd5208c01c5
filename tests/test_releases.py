"""The page of PyTorch releases, which is written from the stored results."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def releases() -> ModuleType:
    """The program that compares releases."""
    spec = importlib.util.spec_from_file_location("releases", ROOT / "bench" / "releases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["releases"] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_the_page_is_written_from_the_stored_results(releases: ModuleType) -> None:
    """The committed page is what `page` writes."""
    assert (ROOT / "docs" / "releases.md").read_text() == releases.page(releases.read())


def test_every_operator_that_differs_is_on_the_page(releases: ModuleType) -> None:
    """With the trainings in which it is the first difference."""
    text = (ROOT / "docs" / "releases.md").read_text()
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
    assert again.values["canary"] == {"exit_code": 0}
    assert again.lacks(["canary", "suite"])


def test_comparisons_with_another_release_are_made_again(
    releases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a release is inserted before it; its own results are kept."""
    monkeypatch.setattr(releases, "DATA", tmp_path)
    release = releases.Release("2.9", {"digests": {}, "previous": "2.6", "trainings bits": {}})
    release.require_previous("2.6")
    assert not release.lacks(["previous", "trainings bits"])
    release.require_previous("2.8")
    assert release.values == {"digests": {}}
