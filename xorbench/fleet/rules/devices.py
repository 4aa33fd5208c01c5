"""What the driver says of a device: memory errors, throttling, heat."""

from collections.abc import Iterator
from typing import Final

from xorbench.fleet import pace as paces
from xorbench.fleet.data import FleetData, grouped
from xorbench.fleet.records import Finding
from xorbench.fleet.rules.code import Code

ECC_ERRORS: Final = Code(
    "XB111", "ecc", "isolate", "uncorrected memory errors: reset or replace the device"
)
THROTTLED: Final = Code("XB204", "throttling", "investigate", "look at power and cooling")
WARM: Final = Code("XB205", "temperature", "note", "warmer than its peers: look at the air")
CODES: Final = (ECC_ERRORS, THROTTLED, WARM)


def sensors(fleet_data: FleetData) -> Iterator[Finding]:
    """What the driver says of memory errors and of throttling."""
    for node in fleet_data.nodes:
        if node.sensors and node.sensors.ecc_uncorrected:
            yield ECC_ERRORS.about(node, f"{node.sensors.ecc_uncorrected} uncorrected ECC errors")
        if node.sensors and node.sensors.throttled:
            yield THROTTLED.about(node, "throttled by " + ", ".join(node.sensors.throttled)[:400])


WARM_C: Final = 10.0


def temperatures(fleet_data: FleetData) -> Iterator[Finding]:
    """A device that is far warmer than the median of its model."""
    for group in grouped(fleet_data.nodes, lambda node: node.model).values():
        warm = [(n, n.sensors.temperature_c) for n in group if n.sensors]
        known = sorted(c for _, c in warm if c is not None)
        if len(known) >= paces.LEAST_PEERS:
            middle = known[len(known) // 2]
            for node, celsius in warm:
                if celsius is not None and celsius - middle > WARM_C:
                    yield WARM.about(node, f"{celsius} °C, the median is {middle} °C")


RULES: Final = (
    sensors,
    temperatures,
)
