"""Devices whose driver reports memory errors, throttling or heat."""

from collections.abc import Iterator
from typing import Final

from xorbench.fleet import pace as paces
from xorbench.fleet.data import FleetData, grouped
from xorbench.fleet.records import Finding
from xorbench.fleet.rules.code import Code

ECC_ERRORS: Final = Code(
    "XB111", "ecc", "isolate", "uncorrected memory errors: reset or replace the device"
)
THROTTLED: Final = Code("XB204", "throttling", "investigate", "check power and cooling")
WARM: Final = Code("XB205", "temperature", "note", "warmer than its peers: check the cooling")


def sensors(fleet_data: FleetData) -> Iterator[Finding]:
    """Devices with memory errors or throttling."""
    for node in fleet_data.nodes:
        if node.sensors and node.sensors.ecc_uncorrected:
            yield ECC_ERRORS.about(node, f"{node.sensors.ecc_uncorrected} uncorrected ECC errors")
        if node.sensors and node.sensors.throttled:
            yield THROTTLED.about(node, "throttled by " + ", ".join(node.sensors.throttled)[:400])


WARM_C: Final = 10.0


def temperatures(fleet_data: FleetData) -> Iterator[Finding]:
    """Devices far warmer than the median of their model."""
    for group in grouped(fleet_data.nodes, lambda node: node.model).values():
        measured = [
            (node, node.sensors.temperature_c)
            for node in group
            if node.sensors and node.sensors.temperature_c is not None
        ]
        if len(measured) >= paces.LEAST_PEERS:
            median = sorted(celsius for _, celsius in measured)[len(measured) // 2]
            for node, celsius in measured:
                if celsius - median > WARM_C:
                    yield WARM.about(node, f"{celsius} °C, the median is {median} °C")
