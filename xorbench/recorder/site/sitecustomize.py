"""Loads the recorder in the user's interpreter: its folder is the first entry of `PYTHONPATH`.

It loads the recorder by path, under a private name, and then runs the `sitecustomize` that Python
would otherwise have imported.
"""

import contextlib
import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def _load_recorder() -> None:
    package = os.path.dirname(HERE)
    name = "_xorbench_recorder"
    spec = importlib.util.spec_from_file_location(
        name,
        os.path.join(package, "__init__.py"),
        submodule_search_locations=[package],
    )
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    entry = importlib.import_module(f"{name}.entry")
    entry.enter()


def _run_next_sitecustomize() -> None:
    """Run the next `sitecustomize` on the path, and let its errors through."""
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != HERE]
if os.environ.get("XORBENCH_RECORD"):
    with contextlib.suppress(Exception):  # the training continues without a record
        _load_recorder()
_run_next_sitecustomize()
