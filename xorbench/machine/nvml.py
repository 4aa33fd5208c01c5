"""Sensors of NVIDIA GPUs: temperature, clocks, memory errors, throttling."""

from typing import Any, Final

from xorbench.records.schema.system import AcceleratorState

# Throttle reasons that count: faults, power and heat. Idle is excluded.
REASONS: Final = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
# Constants of NVML, defined here because pynvml may be missing.
SM, MEMORY, TEMPERATURE, UNCORRECTED, SINCE_BOOT = 1, 2, 0, 1, 0


class Gpus:
    """The GPUs of the driver; empty without a driver. NVML is closed with the process."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            count = pynvml.nvmlDeviceGetCount()
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except Exception:  # a missing library, driver or GPU raises its own error
            self._gpus = []

    def states(self) -> list[AcceleratorState]:
        """The current state of each GPU, in MHz and °C; a GPU with a missing value is skipped."""
        return [state for gpu in self._gpus if (state := self._state(gpu))]

    def _state(self, gpu: Any) -> AcceleratorState | None:
        clock, celsius = self._value("ClockInfo", gpu, SM), self._temperature(gpu)
        highest = self._value("MaxClockInfo", gpu, SM)
        if clock is None or highest is None or celsius is None:
            return None
        return AcceleratorState(
            clock_mhz=clock,
            highest_clock_mhz=highest,
            temperature_c=celsius,
            throttled=self._throttled(gpu),
        )

    def sensors(self, uuid: str) -> dict[str, Any] | None:
        """The sensors of the GPU with this UUID (with or without `GPU-`), in °C and MHz.

        Returns None for an unknown UUID; a value that the GPU does not provide is None.
        """
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        try:
            gpu = self._nvml.nvmlDeviceGetHandleByUUID(name)
        except Exception:  # no driver, or unknown GPU
            return None
        return {
            "temperature_c": self._temperature(gpu),
            "sm_clock_mhz": self._value("ClockInfo", gpu, SM),
            "memory_clock_mhz": self._value("ClockInfo", gpu, MEMORY),
            "ecc_uncorrected": self._value("TotalEccErrors", gpu, UNCORRECTED, SINCE_BOOT),
            "throttled": self._throttled(gpu),
        }

    def _temperature(self, gpu: Any) -> int | None:
        return self._value("Temperature", gpu, TEMPERATURE)

    def _throttled(self, gpu: Any) -> list[str]:
        reasons = self._value("CurrentClocksThrottleReasons", gpu) or 0
        return [reason for bit, reason in REASONS.items() if reasons & bit]

    def _value(self, name: str, *arguments: Any) -> int | None:
        """A value from the driver; None if the GPU does not support it."""
        try:
            return int(getattr(self._nvml, f"nvmlDeviceGet{name}")(*arguments))
        except Exception:  # the error depends on the GPU
            return None
