"""The keys of the JSON that commands print are those of the stored list."""

import json

from stable_interface import STORED, outputs


def test_the_keys_are_the_stored_ones() -> None:
    """`python tests/stable_interface.py` writes them; docs/stability.md states what may change."""
    stored: dict[str, list[str]] = json.loads(STORED.read_text())["json"]
    present = outputs()
    assert present.keys() == stored.keys()
    for command, keys in present.items():
        assert keys == stored[command], command
