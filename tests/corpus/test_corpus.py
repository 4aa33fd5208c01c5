"""`check` locates every reproducibility bug of the corpus, and passes every correct training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import call_in

from corpus import CorpusCase, ResumeCase, answer, cases, resume_cases

CASES, RESUMED = cases(), resume_cases()


def each(some: Sequence[CorpusCase] | Sequence[ResumeCase], folder: str = "") -> list[Any]:
    """The cases as parameters; variants have a mark."""
    return [
        pytest.param(
            case,
            id=folder + case.script,
            marks=[pytest.mark.variant] if case.variant_of else [],
        )
        for case in some
    ]


def test_the_corpus_has_bugs_with_sources_and_correct_trainings() -> None:
    """Each script of the folder is one case, and each bug cites its report."""
    here = Path(__file__).parent
    scripts = {path.name for path in here.glob("*.py") if not path.name.startswith("test_")}
    scripts.remove("corpus.py")
    assert sorted(case.script for case in CASES) == sorted(scripts)
    assert sum(case.exit == 0 for case in CASES) > 10
    assert all(case.source.startswith("https://") for case in CASES if case.exit == 1)


@pytest.mark.parametrize("case", each(CASES))
def test_check_gives_the_expected_answer(case: CorpusCase, tmp_path: Path) -> None:
    """Exit code, first step and component are as expected."""
    assert answer(case, tmp_path, call_in).mismatches == []


def test_the_resume_corpus_has_bugs_with_sources_and_correct_trainings() -> None:
    """Each script of the folder `resume` is one case, and each cites a source."""
    scripts = {path.name for path in (Path(__file__).parent / "resume").glob("*.py")}
    assert sorted(case.script for case in RESUMED) == sorted(scripts)
    assert sum(case.exit == 0 for case in RESUMED) > 10
    assert all(case.source.startswith("https://") for case in RESUMED)


@pytest.mark.parametrize("some", [CASES, RESUMED], ids=["cases", "resume"])
def test_a_variant_belongs_to_a_case_with_the_same_exit_code(
    some: list[CorpusCase] | list[ResumeCase],
) -> None:
    """The varied case is not a variant itself, so it also runs when variants are skipped."""
    run = {case.script: case.exit for case in some if not case.variant_of}
    variants = [case for case in some if case.variant_of]
    assert all(run.get(case.variant_of) == case.exit for case in variants)


@pytest.mark.parametrize("case", each(RESUMED, "resume/"))
def test_check_names_the_state_that_was_not_restored(case: ResumeCase, tmp_path: Path) -> None:
    """Exit code, component and words are as expected."""
    assert answer(case, tmp_path, call_in).mismatches == []
