"""xorbench: is a PyTorch training, or machine, right, the same, and as fast as it should be?

`xorbench.check` checks any training from Python; `run`, `load_run` and `compare` are for runs of
the XOR training. What each needs is imported when it is first used.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xorbench.api.check import CheckResult as CheckResult
    from xorbench.api.check import check as check
    from xorbench.api.runs import ComparisonResult as ComparisonResult
    from xorbench.api.runs import RunResult as RunResult
    from xorbench.api.runs import compare as compare
    from xorbench.api.runs import load_run as load_run
    from xorbench.api.runs import run as run
else:
    _PLACES = {
        "api.check": ("CheckResult", "check"),
        "api.runs": ("ComparisonResult", "RunResult", "compare", "load_run", "run"),
    }

    def __getattr__(name: str) -> object:
        import sys
        from importlib import import_module

        from xorbench.errors import BadOption, unsupported

        for module, names in _PLACES.items():
            if name in names:
                if refusal := unsupported(sys.platform):
                    raise BadOption(refusal)
                if module == "api.runs":
                    extras = import_module("xorbench.extras")
                    extras.require(f"xorbench.{name}", "run", "scipy", "matplotlib")
                return getattr(import_module(f"xorbench.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
