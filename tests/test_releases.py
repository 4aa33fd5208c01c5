"""The page of PyTorch releases, which is written from the stored results."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

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


def test_a_stored_result_changes_the_pages(
    releases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of result is on a page."""
    before = releases.page(releases.read()), releases.defects_page(releases.read())
    for part, case, value in (
        ("trainings bits", "xor", {"outcome": "failed", "sentence": "no compiler"}),
        ("checkpoints bits", "xor", {"outcome": "fail", "sentence": ""}),
        ("operators", "wrong", ["aten.mm"]),
        ("engines", "fetch", "0" * 16),
        ("suite", "failed", ["a test"]),
        ("defects", "index_put_", "True"),
        ("explanations", next(iter(releases.scripts(releases.EXPLANATIONS))), "another output"),
    ):
        shutil.copytree(releases.DATA, tmp_path, dirs_exist_ok=True)
        values = json.loads((tmp_path / "2.13.json").read_text())
        values[part][case] = value
        (tmp_path / "2.13.json").write_text(json.dumps(values))
        with monkeypatch.context() as patch:
            patch.setattr(releases, "DATA", tmp_path)
            stored = releases.read()
        assert (releases.page(stored), releases.defects_page(stored)) != before, part


def test_a_release_without_a_later_comparison_is_not_on_the_page(
    releases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results wait until the next release is compared with it."""
    shutil.copytree(releases.DATA, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(releases, "DATA", tmp_path)
    before = [release.name for release in releases.read()]
    releases.Release.read("2.5").add("previous", lambda: "2.4")
    assert [release.name for release in releases.read()] == before


def test_every_operator_that_differs_is_on_the_page(releases: ModuleType) -> None:
    """With the trainings in which it is the first difference."""
    text = releases.PAGE.read_text()
    for release in releases.read():
        for answer in release.values.get("trainings bits", {}).values():
            if answer["outcome"] == "fail":
                assert releases.escape(releases._place(answer)) in text


def test_the_tables_have_no_gaps(releases: ModuleType) -> None:
    """Every training, engine, script and test has a result under each release."""
    assert releases.NOT_TESTED not in releases.PAGE.read_text()
    assert releases.NOT_TESTED not in releases.DEFECTS.read_text()


def test_stored_results_need_no_environment(
    releases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that made them installs and stores nothing when it is repeated."""
    stored, environments = tmp_path / "stored", tmp_path / "environments"
    shutil.copytree(releases.DATA, stored)
    before = {path.name: path.read_text() for path in stored.iterdir()}
    monkeypatch.setattr(releases, "DATA", stored)
    monkeypatch.setattr(releases, "environment", mock.Mock(side_effect=AssertionError))
    names = [release.name for release in releases.read()]
    releases.run(names, environments, releases.TRAININGS, keep=False)
    assert not environments.exists()
    assert {path.name: path.read_text() for path in stored.iterdir()} == before


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
