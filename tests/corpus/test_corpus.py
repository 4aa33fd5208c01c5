"""Every reproducibility bug of the corpus is found and named; no sound training is accused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import call_in

from corpus import CorpusCase, ResumeCase, answer, cases, resume_cases

CASES, RESUMED = cases(), resume_cases()


def each(some: Sequence[CorpusCase] | Sequence[ResumeCase], folder: str = "") -> list[Any]:
    """The cases as parameters; what is a variant of another is marked so."""
    return [
        pytest.param(
            case,
            id=folder + case.script,
            marks=[pytest.mark.variant] if case.variant_of else [],
        )
        for case in some
    ]


def test_the_corpus_has_bugs_and_sound_trainings_and_cites_the_bugs() -> None:
    """Each script of the folder is a case, once, and each bug names the report of it."""
    here = Path(__file__).parent
    scripts = {path.name for path in here.glob("*.py") if not path.name.startswith("test_")}
    scripts.remove("corpus.py")
    assert sorted(case.script for case in CASES) == sorted(scripts)
    assert sum(case.exit == 0 for case in CASES) > 10
    assert all(case.source.startswith("https://") for case in CASES if case.exit == 1)


@pytest.mark.parametrize("case", each(CASES))
def test_check_answers_as_it_must(case: CorpusCase, tmp_path: Path) -> None:
    """Exit code, first step and component are those that the case asks for."""
    assert answer(case, tmp_path, call_in).wrong == []


def test_the_resume_corpus_has_bugs_and_sound_trainings_and_cites_the_bugs() -> None:
    """The same of the scripts that are killed and resumed."""
    scripts = {path.name for path in (Path(__file__).parent / "resume").glob("*.py")}
    assert sorted(case.script for case in RESUMED) == sorted(scripts)
    assert sum(case.exit == 0 for case in RESUMED) > 10
    assert all(case.source.startswith("https://") for case in RESUMED)


@pytest.mark.parametrize("some", [CASES, RESUMED], ids=["cases", "resume"])
def test_a_variant_is_of_a_case_that_is_always_run_and_ends_alike(
    some: list[CorpusCase] | list[ResumeCase],
) -> None:
    """So what is left out where variants are has a script of its kind that is not."""
    run = {case.script: case.exit for case in some if not case.variant_of}
    variants = [case for case in some if case.variant_of]
    assert all(run.get(case.variant_of) == case.exit for case in variants)


@pytest.mark.parametrize("case", each(RESUMED, "resume/"))
def test_check_names_what_was_not_restored(case: ResumeCase, tmp_path: Path) -> None:
    """Exit code, component, and the words that the case asks for."""
    assert answer(case, tmp_path, call_in).wrong == []
