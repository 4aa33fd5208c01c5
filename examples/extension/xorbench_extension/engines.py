"""The row of an engine. The orchestrator reads it, so it imports no torch."""

from xorbench.xor.matrix.engines import Engine

QUIET = Engine(
    "quiet",
    "the loader's loop without garbage collection",
    epoch="xorbench_extension.quiet:quiet",
    fed_by_loader=True,
)
