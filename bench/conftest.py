"""What the suites share: the copy of xorbench, the machine in each saved file, a process's flags.

What needs the copy is imported once it is known to be this repository's.
"""

from pathlib import Path
from typing import Any

import pytest

import xorbench

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Refuse to measure an installed copy, which lacks the changes made here."""
    measured = Path(xorbench.__file__).resolve().parent.parent
    if measured != REPOSITORY:
        raise pytest.UsageError(
            f"bench: xorbench is imported from {measured}, not from {REPOSITORY}; "
            "hint: pip install --editable '.[bench]'"
        )


@pytest.fixture(scope="session", autouse=True)
def under_the_base_config() -> None:
    """Every suite runs under it."""
    set_base()


def set_base() -> None:
    """The flags of a process under the base process config."""
    import torch

    from xorbench.xor.matrix.case import ProcessConfig

    config = ProcessConfig()
    assert config.threads is not None
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.deterministic)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add what a process records of its PyTorch, less what names a place on this computer.

    The machine is also asked for before any fixture, to compare with a saved one.
    """
    from xorbench.process import machine

    set_base()
    described = machine.describe()
    del described["python_executable"]
    machine_info["xorbench"] = described
