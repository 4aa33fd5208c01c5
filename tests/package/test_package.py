"""The wheel and the sdist, outside the checkout: built, checked, installed, and used.

The environment has the declared dependencies and no other; they are linked, not downloaded.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from conftest import once
from environments import PROJECT, ROOT, environment

import xorbench

LIMIT_S = 300.0
VERSION = xorbench.__version__
WHEEL = f"xorbench-{VERSION}-py3-none-any.whl"
SDIST = f"xorbench-{VERSION}.tar.gz"


def run_outside(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout, with nothing of this environment."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("PYTEST_")
    }
    return subprocess.run(
        words, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


@dataclass(frozen=True)
class Package:
    """The files that are uploaded, and an environment that has installed the wheel."""

    folder: Path

    @property
    def dist(self) -> Path:
        """The folder of the two files."""
        return self.folder / "dist"

    @property
    def names(self) -> list[str]:
        """The files in the wheel."""
        return zipfile.ZipFile(self.dist / WHEEL).namelist()

    @property
    def metadata(self) -> Message:
        """The metadata of the wheel."""
        with zipfile.ZipFile(self.dist / WHEEL) as wheel:
            return Parser().parsestr(wheel.read(f"xorbench-{VERSION}.dist-info/METADATA").decode())

    def run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the installed `xorbench`."""
        return run_outside(folder, str(self.folder / "venv" / "bin" / "xorbench"), *words)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Build the sdist from the files that git tracks, and the wheel from the sdist."""

    def make(folder: Path) -> None:
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, files.stdout.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("results/"):
                (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / "source" / name)
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
        built = run_outside(folder / "source", *build)
        assert built.returncode == 0, built.stdout + built.stderr
        extras = PROJECT["optional-dependencies"]
        several = [*extras["speed"], *extras["run"], *extras["all"]]
        needed = [text for text in several if not text.startswith("xorbench")]
        python = environment(folder / "venv", [*PROJECT["dependencies"], *needed])
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        installed = run_outside(
            folder, *pip, "--no-index", "--no-deps", str(folder / "dist" / WHEEL)
        )
        assert installed.returncode == 0, installed.stderr

    return Package(once(tmp_path_factory, "package", make))


def test_twine_accepts_both_files(package: Package) -> None:
    """The description renders, and the metadata is valid."""
    checked = run_outside(
        package.folder,
        *(sys.executable, "-m", "twine", "check", "--strict"),
        *(f"dist/{name}" for name in (WHEEL, SDIST)),
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2


def test_the_wheel_has_every_file_of_the_package(package: Package) -> None:
    """Python, templates, golden values, the marker of types, the licence; no tests."""
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "xorbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    own = {name for name in package.names if ".dist-info/" not in name}
    assert own == tracked
    assert "xorbench/py.typed" in own
    assert f"xorbench-{VERSION}.dist-info/licenses/LICENSE" in package.names


def test_the_sdist_has_what_a_packager_needs(package: Package) -> None:
    """The tests, the pages, the licence."""
    with tarfile.open(package.dist / SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = ("LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "pyproject.toml", "tox.ini")
    assert {*needed, "tests/conftest.py", "docs/commands.md", "examples/gpt.py"} <= names


def test_the_metadata_is_complete(package: Package) -> None:
    """Licence, Python, extras, and a classifier for each minor version that is tested."""
    metadata = package.metadata
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("Provides-Extra") == ["all", "bench", "run", "speed"]
    classifiers = metadata.get_all("Classifier") or []
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.13"} <= set(classifiers)
    core = [text for text in metadata.get_all("Requires-Dist") or [] if "extra ==" not in text]
    assert len(core) == len(PROJECT["dependencies"]) == 9


def test_the_version_is_printed(package: Package, tmp_path: Path) -> None:
    """`xorbench --version`, from the script that pip has made."""
    assert package.run(tmp_path, "--version").stdout == f"xorbench, version {VERSION}\n"


def test_the_benchmark_runs_in_an_empty_folder(package: Package, tmp_path: Path) -> None:
    """The README's first command, with two cases."""
    ran = package.run(tmp_path, "run", "--quick", "--devices", "cpu,cuda")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "results" / "latest" / "report.html").is_file()


def test_a_training_is_checked_in_an_empty_folder(package: Package, tmp_path: Path) -> None:
    """The example, which nothing else accompanies."""
    shutil.copy(ROOT / "examples" / "gpt.py", tmp_path)
    python = str(package.folder / "venv" / "bin" / "python")
    checked = package.run(tmp_path, "check", "--", python, "gpt.py", "--steps", "5")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "5 steps" in checked.stdout


def test_the_machine_is_checked_in_an_empty_folder(package: Package, tmp_path: Path) -> None:
    """The canary has its golden values."""
    checked = package.run(tmp_path, "canary", "--devices", "cpu")
    assert checked.returncode == 0, checked.stdout + checked.stderr
