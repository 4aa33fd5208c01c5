"""Extras of the install: libraries that only some commands need."""

from importlib.util import find_spec
from typing import Final

from xorbench.errors import BadOption
from xorbench.options.option_text import option_text

# The modules that each extra of pyproject.toml provides, where a command cannot work without them.
EXTRAS: Final = {
    "speed": ("scipy",),
    "run": ("scipy", "matplotlib", "rich", "torch"),
    "all": ("numba", "scipy", "matplotlib", "rich", "prometheus_client", "torch"),
}
LIBRARIES: Final = {
    "matplotlib": "matplotlib",
    "numba": "Numba",
    "prometheus_client": "prometheus-client",
    "rich": "rich",
    "scipy": "SciPy",
    "torch": "PyTorch",
}
"""The name of each library, by its module."""


def require(command: str, extra: str, *modules: str) -> None:
    """Raise `BadOption` if a module of the extra is not installed; by default any of them."""
    for module in modules or EXTRAS[extra]:
        if find_spec(module) is None:
            raise not_installed(command, module, extra)


def not_installed(command: str, module: str, extra: str = "all") -> BadOption:
    """The error of a command that needs a module."""
    text = option_text(
        '{command} needs {library}: pip install "xorbench[{extra}]"',
        command=command,
        library=LIBRARIES[module],
        extra=extra,
    )
    return BadOption(text)
