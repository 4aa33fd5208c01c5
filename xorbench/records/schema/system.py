"""What the machine did meanwhile."""

from msgspec import Struct

from xorbench.records.schema.line import Line


class AcceleratorState(Struct, frozen=True, kw_only=True):
    """An accelerator at one moment: clocks in MHz, temperature in °C, why it runs slower."""

    clock_mhz: int
    highest_clock_mhz: int
    temperature_c: int
    throttled: list[str]


class SystemSample(Line, frozen=True, kw_only=True):
    """One line of `system_samples.jsonl`: the machine over about a second of the run.

    `others_percent` is the share of all processors' time that went to other programs, null at the
    first sample; `steal_percent` the share that the hypervisor gave to other machines.
    """

    at_s: float
    load_average_1min: float
    others_percent: float | None
    steal_percent: float
    accelerators: list[AcceleratorState] = []
