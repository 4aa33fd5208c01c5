"""Virtual environments for tests, from links to what is installed here: nothing is downloaded."""

import re
import sys
import tomllib
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def environment(folder: Path, requirements: Iterable[str]) -> Path:
    """The interpreter of a new environment that has these distributions and no other."""
    venv.create(folder, symlinks=True)
    packages = site_packages(folder)
    for name in _closure(requirements):
        _link(name, packages)
    return folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """The folder of the packages of an environment."""
    return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def link_torch(folder: Path) -> None:
    """Give an environment the PyTorch of this one, which is found after its own packages."""
    torch = Path(str(metadata.distribution("torch").locate_file("")))
    (site_packages(folder) / "zz_torch.pth").write_text(f"{torch}\n")


def _closure(requirements: Iterable[str]) -> list[str]:
    """The names of the distributions that the requirements need, their own included."""
    names: dict[str, None] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if applies and name not in names:
            names[name] = None
            waiting += map(Requirement, metadata.requires(name) or ())
    return list(names)


def _link(name: str, packages: Path) -> None:
    """Link the top-level files and folders of a distribution."""
    distribution = metadata.distribution(name)
    tops = {Path(file).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for top in tops:
        target = packages / top
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(top))).resolve())
