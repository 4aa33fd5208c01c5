"""The conditions that both sides of a speed comparison share."""

from pathlib import Path

import pytest

from xorbench.programs import conditions
from xorbench.programs.conditions import (
    TUNABLES,
    described,
    page_variables,
    shared_variables,
    waiting_variables,
)


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system with glibc 2.41 and huge pages on request."""
    modes = tmp_path / "enabled"
    modes.write_text("always [madvise] never\n")
    monkeypatch.setattr(conditions, "MODES", modes)
    monkeypatch.setattr(conditions.platform, "libc_ver", lambda: ("glibc", "2.41"))
    return modes


def test_huge_pages_are_appended_to_the_tunables_of_the_user() -> None:
    """The setting is one of several, separated by colons."""
    assert page_variables("huge", {}) == {TUNABLES: "glibc.malloc.hugetlb=1"}
    own = {TUNABLES: "glibc.malloc.arena_max=1"}
    expected = {TUNABLES: "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"}
    assert page_variables("huge", own) == expected


def test_a_setting_of_the_user_wins() -> None:
    """Neither `--pages default` nor an own value is overridden."""
    assert page_variables("default", {}) == {}
    assert page_variables("huge", {TUNABLES: "glibc.malloc.hugetlb=0"}) == {}


@pytest.mark.parametrize("version", [("glibc", "2.34"), ("", "")])
def test_an_old_or_different_c_library_has_no_huge_pages(
    version: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tunable exists since glibc 2.35."""
    monkeypatch.setattr(conditions.platform, "libc_ver", lambda: version)
    assert page_variables("huge", {}) == {}


def test_a_system_without_huge_pages_keeps_the_default(system: Path) -> None:
    """They are disabled, or the file does not exist."""
    system.write_text("always madvise [never]\n")
    assert page_variables("huge", {}) == {}
    system.unlink()
    assert page_variables("huge", {}) == {}


def test_waiting_threads_sleep_unless_the_user_sets_how_they_wait() -> None:
    """Neither `--waiting default` nor an own variable is overridden."""
    assert waiting_variables("sleep", {}) == {"OMP_WAIT_POLICY": "passive"}
    assert waiting_variables("default", {}) == {}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        assert waiting_variables("sleep", {name: "1"}) == {}


def test_the_conditions_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, and cores as ranges."""
    monkeypatch.setattr(conditions.os, "sched_getaffinity", lambda _pid: {0, 1, 2, 5})
    lines = described({TUNABLES: "glibc.malloc.hugetlb=1"})
    assert lines["pages for malloc"] == "huge (GLIBC_TUNABLES=glibc.malloc.hugetlb=1)"
    assert lines["cores"] == "0-2,5"
    assert lines["waiting threads"] == "default"
    assert described({})["pages for malloc"] == "default"
    sleeping = described(shared_variables("default", "sleep", {}))
    assert sleeping["waiting threads"] == "sleep (OMP_WAIT_POLICY=passive)"
