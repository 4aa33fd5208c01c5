"""xorbench: does this PyTorch machine train right, to the same bits, and as fast as it should?

`xorbench.check` checks any training from Python; what it needs is imported when it is first used.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xorbench.api import CheckResult as CheckResult
    from xorbench.api import check as check
else:

    def __getattr__(name: str) -> object:
        if name not in ("CheckResult", "check"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from xorbench import api

        return getattr(api, name)
