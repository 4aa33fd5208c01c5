"""What the suites share: the machine in each saved file, and a process's own flags."""

from typing import Any

import pytest
import torch

from xorbench.plan.case import ProcessConfig
from xorbench.process import machine


@pytest.fixture(scope="session", autouse=True)
def under_the_base_config() -> None:
    """Every suite runs under it."""
    set_base()


def set_base() -> None:
    """The flags of a process under the base process config."""
    config = ProcessConfig()
    assert config.threads is not None
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.deterministic)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add what a process records of its PyTorch, less what names a place on this computer.

    The machine is also asked for before any fixture, to compare with a saved one.
    """
    set_base()
    described = machine.describe()
    del described["python_executable"]
    machine_info["xorbench"] = described
