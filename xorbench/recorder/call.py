"""Calls a function in a fresh interpreter: `python call.py package.module:function`.

If the target cannot be called, it writes the reason as one line to `target.txt`, next to the
records.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any


def main(target: str) -> None:
    """Import the module from the current folder and call the function without arguments."""
    sys.path[0] = os.getcwd()
    sys.argv = [target]
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        refuse(f"there is no module {error.name!r}")
    function: Any = module
    for part in name.split("."):
        if not hasattr(function, part):
            refuse(f"module {module_name!r} has no {name!r}")
        function = getattr(function, part)
    if not callable(function):
        refuse(f"{name!r} is not a function")
    if inspect.iscoroutinefunction(function):
        refuse(f"{name!r} is a coroutine function; give one that is called and returns")
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        refuse(f"{name!r} needs the argument {needed[0]!r}; give a function without arguments")
    function()


def refuse(reason: str) -> None:
    """Write the reason why the target cannot be called, and exit."""
    folder = os.environ.get("XORBENCH_RECORD")
    if folder:
        with open(os.path.join(folder, "target.txt"), "w") as file:
            file.write(reason)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1])
