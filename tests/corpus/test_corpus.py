"""Every reproducibility bug of the corpus is found and named; no sound training is accused."""

from pathlib import Path

import pytest

from corpus import CorpusCase, ResumeCase, answer, cases, resume_cases

CASES, RESUMED = cases(), resume_cases()


def test_the_corpus_has_bugs_and_sound_trainings_and_cites_the_bugs() -> None:
    """Each script of the folder is a case, once, and each bug names the report of it."""
    here = Path(__file__).parent
    scripts = {path.name for path in here.glob("*.py") if not path.name.startswith("test_")}
    scripts.remove("corpus.py")
    assert sorted(case.script for case in CASES) == sorted(scripts)
    assert sum(case.exit == 0 for case in CASES) > 10
    assert all(case.source.startswith("https://") for case in CASES if case.exit == 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.script)
def test_check_answers_as_it_must(case: CorpusCase, tmp_path: Path) -> None:
    """Exit code, first step and component are those that the case asks for."""
    assert answer(case, tmp_path).wrong == []


def test_the_resume_corpus_has_bugs_and_sound_trainings_and_cites_the_bugs() -> None:
    """The same of the scripts that are killed and resumed."""
    scripts = {path.name for path in (Path(__file__).parent / "resume").glob("*.py")}
    assert sorted(case.script for case in RESUMED) == sorted(scripts)
    assert sum(case.exit == 0 for case in RESUMED) > 10
    assert all(case.source.startswith("https://") for case in RESUMED)


@pytest.mark.parametrize("case", RESUMED, ids=lambda case: f"resume/{case.script}")
def test_check_names_what_was_not_restored(case: ResumeCase, tmp_path: Path) -> None:
    """Exit code, component, and the words that the case asks for."""
    assert answer(case, tmp_path).wrong == []
