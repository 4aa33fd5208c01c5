"""The atlas as text, and the changes that adding a run made to it."""

import json
from collections.abc import Sequence

import msgspec
import pandas as pd

from xorbench.fleet.atlas import Atlas, AtlasChange
from xorbench.recorder.environment import labelled
from xorbench.report.text import to_terminal


def text(atlas: Atlas) -> str:
    """One row per environment and training."""
    rows = [
        {
            "environment": key,
            "device": entry.environment.get("device", ""),
            **labelled(entry.environment, "torch_version", "cpu_capability"),
            "training": training.partition("/")[2],
            "recipe": training.partition("/")[0],
            "sha256": digest,
        }
        for key, entry in atlas.entries.items()
        for training, digest in entry.digests.items()
    ]
    return to_terminal(pd.DataFrame(rows, dtype=str)) if rows else "the atlas is empty"


def as_json(atlas: Atlas) -> str:
    """The atlas as JSON."""
    return json.dumps(msgspec.to_builtins(atlas), indent=2)


def changes(changes: Sequence[AtlasChange]) -> str:
    """One line per training."""
    return "\n".join(
        f"{change.outcome}: {change.key} {change.training} {change.digest[:16]}"
        + (f", recorded {change.recorded[:16]}" if change.outcome == "different bits" else "")
        for change in changes
    )
