"""Retired phrases do not appear in the text and names of the repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCOPE = ("README.md", "CONTRIBUTING.md", "docs", "examples", "xorbench")
# Regular expressions of retired phrases, each with the term to use. A phrase is one or more whole
# words; a space matches `_`, the border of words in a CamelCase name, and a line break.
RETIRED = {
    "tapes?|yardsticks?": "epoch digests, calibration workload",
    "lattice|axes table|parted|held against": "settings table, diverged, compared with",
    "(un)?plant(s|ed|ing|able)?": "inject",
    "muster|passports?|(reference|universal) form": "fleet data, rank info, … training",
    "(an)?other bits|(equal|same) bits": "different bits, identical bits",
    "(same|equal),? to the bit": "bitwise identical",
    "mov(e|es|ed|ing) (the |no )?bits?": "change the result",
    "cur(e|es|ed)|mend(s|ed|ing)?": "fix",
    "equal pairs?|not the same:|repeats? itself": "identical pair, not identical, reproducible",
    "(went|goes|go) on (at|with)": "resumed at, continues with",
    "anew": "from scratch, again",
    "wr(ite|ites|ote|itten) down": "record, store, specify",
    "in detail": "with detailed recording",
    r"left\sout": "excluded, skipped, not recorded",
    "passed over|not settled": "ignored, inconclusive",
    "believe[ds]?|surely": "valid, trusted, significantly",
    r'(?<![./"`])(?<!reduce_)scatter(s|ed)?(?![(_,"`])': "standard deviation, variance, spread",
    "from run to run|wander(s|ed|ing)?|(median|quartile) distance": "run-to-run, drift, MAD, IQR",
    "under stress|of no use": "under load, not comparable",
    "sound": "healthy, correct",
    "odd (one|node|rank|device|bit)s?": "outlier, differing node",
    "right answers?|the truth": "expected result, reference value",
    "cards?|pretend(s|ed)?": "GPU, accelerator, simulated",
    "twins?": "warm-up run, float64 reference",
    "honou?r(s|ed|ing)?": "support",
    "unwatched|watched (training|module)s?|o(n|ff) record": "untraced, traced, recorded",
    "stands? open|followed in double precision": "is initialized, recomputed in float64",
    "polite(ly)? (kill|signal)": "SIGTERM",
    "memory that is not filled": "uninitialized memory",
    "dr(aw|aws|ew|awn) from (a|the|its) generators?": "advance or use a generator",
    "by itself|at hand": "on its own, available",
    "machine constants|constants of a line": "cost model parameters, coefficients",
    "facts": "details, evidence",
    "trainings? of (yours|your own|the user's)": "your training, user training",
    "(?<!test_)witness(es)?": "independent reference",
    "nobody|somebody|whoever|cr(y|ies) wolf": "no rank, the caller, false alarm",
}
BORDERS = "(?<![a-z])(?:%s)(?![a-z])"
PATTERNS = {re.compile(BORDERS % p.replace(" ", r"[\s_#]+")): term for p, term in RETIRED.items()}


def retired(text: str) -> list[str]:
    """The retired phrases of a text, each with the term to use."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    return [f"{m[0]!r}: {term}" for p, term in PATTERNS.items() for m in p.finditer(text)]


@pytest.mark.parametrize("text", ["A twin.", "OnRecord", "read_cards()", "run\n    # by itself"])
def test_a_retired_phrase_is_found(text: str) -> None:
    """In a sentence, in a name, and across the lines of a comment."""
    assert len(retired(text)) == 1
    assert retired("reduce_scatter, unsound, discard, test_witness.py, `scatter`") == []


def test_no_text_or_name_has_a_retired_phrase() -> None:
    """The paths and contents of all tracked text files in `SCOPE`."""
    listed = subprocess.run(["git", "ls-files", *SCOPE], cwd=ROOT, capture_output=True, check=True)
    texts = {path: (ROOT / path).read_bytes() for path in listed.stdout.decode().splitlines()}
    assert len(texts) > 300
    found = {
        path: retired(f"{path}\n{content.decode()}")
        for path, content in texts.items()
        if b"\0" not in content
    }
    assert {path: phrases for path, phrases in found.items() if phrases} == {}
