"""What the suites share: the machine in each saved file, and a worker's own flags."""

from typing import Any

import pytest
import torch

from xorbench.plan.case import Setting
from xorbench.worker import machine


@pytest.fixture(scope="session", autouse=True)
def under_the_base_setting() -> None:
    """Every suite runs under it."""
    set_base()


def set_base() -> None:
    """The flags of a worker under the base setting."""
    setting = Setting()
    assert setting.threads is not None
    torch.set_num_threads(setting.threads)
    torch.use_deterministic_algorithms(setting.deterministic)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add what a worker records of its PyTorch, less what names a place on this computer.

    The machine is also asked for before any fixture, to compare with a saved one.
    """
    set_base()
    described = machine.describe()
    del described["python_executable"]
    machine_info["xorbench"] = described
