"""What NVIDIA's driver says of its cards: temperature, clocks, memory errors, throttling."""

from collections.abc import Callable
from typing import Any, Final

from xorbench.observe.records.system import AcceleratorState

# Reasons to run slower than asked that are a fault, or want of power or air; idle is none.
REASONS: Final = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
# NVML's own numbers, so that nothing is asked of a library that may not be there.
SM, MEMORY, TEMPERATURE, UNCORRECTED, SINCE_BOOT = 1, 2, 0, 1, 0


class Cards:
    """The cards that the driver knows; none where there is no driver. Closed with the process."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            count = pynvml.nvmlDeviceGetCount()
            self._cards = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except Exception:  # no library, no driver, no card: each has its own error
            self._cards = []

    def states(self) -> list[AcceleratorState]:
        """Each of them now, clocks in MHz, temperature in °C; none that cannot say it all."""
        return [found for card in self._cards if (found := self._state(card))]

    def _state(self, card: Any) -> AcceleratorState | None:
        clock, highest, celsius = (
            _asked(lambda: self._nvml.nvmlDeviceGetClockInfo(card, SM)),
            _asked(lambda: self._nvml.nvmlDeviceGetMaxClockInfo(card, SM)),
            _asked(lambda: self._nvml.nvmlDeviceGetTemperature(card, TEMPERATURE)),
        )
        if clock is None or highest is None or celsius is None:
            return None
        return AcceleratorState(
            clock_mhz=clock,
            highest_clock_mhz=highest,
            temperature_c=celsius,
            throttled=self._throttled(card),
        )

    def sensors(self, uuid: str) -> dict[str, Any] | None:
        """The card of this UUID (with or without `GPU-`), in °C and MHz; None without it.

        A value that the card does not give is null.
        """
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        try:
            card = self._nvml.nvmlDeviceGetHandleByUUID(name)
        except Exception:  # no driver, or no such card
            return None
        errors = (UNCORRECTED, SINCE_BOOT)
        return {
            "temperature_c": _asked(lambda: self._nvml.nvmlDeviceGetTemperature(card, TEMPERATURE)),
            "sm_clock_mhz": _asked(lambda: self._nvml.nvmlDeviceGetClockInfo(card, SM)),
            "memory_clock_mhz": _asked(lambda: self._nvml.nvmlDeviceGetClockInfo(card, MEMORY)),
            "ecc_uncorrected": _asked(
                lambda: self._nvml.nvmlDeviceGetTotalEccErrors(card, *errors)
            ),
            "throttled": self._throttled(card),
        }

    def _throttled(self, card: Any) -> list[str]:
        reasons = _asked(lambda: self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card)) or 0
        return [reason for bit, reason in REASONS.items() if reasons & bit]


def _asked(question: Callable[[], int]) -> int | None:
    try:
        return int(question())
    except Exception:  # not supported by this card
        return None
