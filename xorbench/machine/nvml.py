"""What NVIDIA's driver says of its cards: temperature, clocks, memory errors, throttling."""

from typing import Any, Final

from xorbench.records.schema.system import AcceleratorState

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
        """The state of each card now, in MHz and °C; a card with a missing value is left out."""
        return [state for card in self._cards if (state := self._state(card))]

    def _state(self, card: Any) -> AcceleratorState | None:
        clock, celsius = self._value("ClockInfo", card, SM), self._temperature(card)
        highest = self._value("MaxClockInfo", card, SM)
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
        return {
            "temperature_c": self._temperature(card),
            "sm_clock_mhz": self._value("ClockInfo", card, SM),
            "memory_clock_mhz": self._value("ClockInfo", card, MEMORY),
            "ecc_uncorrected": self._value("TotalEccErrors", card, UNCORRECTED, SINCE_BOOT),
            "throttled": self._throttled(card),
        }

    def _temperature(self, card: Any) -> int | None:
        return self._value("Temperature", card, TEMPERATURE)

    def _throttled(self, card: Any) -> list[str]:
        reasons = self._value("CurrentClocksThrottleReasons", card) or 0
        return [reason for bit, reason in REASONS.items() if reasons & bit]

    def _value(self, name: str, *arguments: Any) -> int | None:
        """A value that the driver gives; None if the card does not support it."""
        try:
            return int(getattr(self._nvml, f"nvmlDeviceGet{name}")(*arguments))
        except Exception:  # each card has its own error
            return None
