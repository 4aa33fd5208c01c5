"""The golden digests of the exact probes.

`python -m xorbench.machine.probes.golden --write` computes `golden.json` by integer arithmetic.
`--check` compares the file with the results of NumPy, and of this PyTorch on a device.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from xorbench.errors import CHECK_FAILED, PASSED
from xorbench.machine.probes.exact import ExactCase, digest
from xorbench.machine.probes.table import PROBES
from xorbench.registry import implementation

GOLDEN: Final = Path(__file__).with_name("golden.json")


def cases_of(name: str) -> Iterator[ExactCase]:
    """The cases of a probe with golden digests."""
    yield from implementation(PROBES[name].cases)()


@lru_cache(maxsize=1)
def golden() -> dict[str, dict[str, str]]:
    """The digests of the expected results, by probe and case."""
    digests: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return digests


def expected_digests() -> dict[str, dict[str, str]]:
    """The same digests, recomputed by NumPy."""
    return {
        name: {case.name: digest(case.expected(case.make()), case.dtype) for case in cases_of(name)}
        for name, probe in PROBES.items()
        if probe.cases
    }


def main(argv: list[str] | None = None) -> int:
    """Write the file, or compare with it; the exit code is 1 for any difference."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(argv)
    expected = expected_digests()
    if options.write:
        GOLDEN.write_text(
            json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return PASSED
    return _compared(expected, options.device)


def _compared(expected: dict[str, dict[str, str]], device: str) -> int:
    from xorbench.machine.probes.check import check  # which imports this module

    wrong = [
        f"NumPy: {probe}: {name}"
        for probe, cases in expected.items()
        for name in cases.keys() | golden()[probe].keys()
        if cases.get(name) != golden()[probe].get(name)
    ]
    count = sum(map(len, expected.values()))
    _print(f"NumPy: {count} results")
    for probe in expected:
        result = check(probe, device)
        _print(f"{device}: {probe}: {result.checked} results, {len(result.skipped)} not available")
        wrong += [f"{device}: {probe}: {row.what}: {row.actual}" for row in result.wrong]
    for line in wrong:
        _print(f"wrong: {line}")
    return CHECK_FAILED if wrong else PASSED


def _print(text: Any) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
