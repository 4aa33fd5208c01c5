"""What NVIDIA's driver says of a card: temperature, clocks, memory errors, throttling."""

from collections.abc import Callable
from typing import Any, Final

# Reasons to run slower than asked that are a fault, or want of power or air; idle is none.
REASONS: Final = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}


def read(uuid: str) -> dict[str, Any] | None:
    """The card of this UUID (with or without `GPU-`), in °C and MHz; None without driver or card.

    A value that the card does not give is null.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no card: each has its own error
        return None
    try:
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        card = pynvml.nvmlDeviceGetHandleByUUID(name)
        reasons = _asked(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(card)) or 0
        return {
            "temperature_c": _asked(lambda: pynvml.nvmlDeviceGetTemperature(card, 0)),
            "sm_clock_mhz": _asked(lambda: pynvml.nvmlDeviceGetClockInfo(card, 1)),
            "memory_clock_mhz": _asked(lambda: pynvml.nvmlDeviceGetClockInfo(card, 2)),
            "ecc_uncorrected": _asked(lambda: pynvml.nvmlDeviceGetTotalEccErrors(card, 1, 0)),
            "throttled": [reason for bit, reason in REASONS.items() if reasons & bit],
        }
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _asked(question: Callable[[], int]) -> int | None:
    try:
        return int(question())
    except Exception:  # not supported by this card
        return None
