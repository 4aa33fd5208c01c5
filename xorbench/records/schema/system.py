"""The state of the machine during a run."""

from msgspec import Struct

from xorbench.records.schema.line import Line


class AcceleratorState(Struct, frozen=True, kw_only=True):
    """An accelerator at one time: clocks in MHz, temperature in °C, throttle reasons."""

    clock_mhz: int
    highest_clock_mhz: int
    temperature_c: int
    throttled: list[str]


class SystemSample(Line, frozen=True, kw_only=True):
    """One line of `system_samples.jsonl`: the machine during about one second of the run.

    `others_percent` is the share of processor time used by other programs, null in the first
    sample. `steal_percent` is the share that the hypervisor gave to other machines.
    """

    at_s: float
    load_average_1min: float
    others_percent: float | None
    steal_percent: float
    accelerators: list[AcceleratorState] = []
