"""What verifying every element costs a burn-in: its throughput against the bare product's.

    python bench/burn_in_cost.py --rounds 12

For each type and size a turn of the burn-in (new factors, products for two seconds, each compared,
a flipped bit that must be seen) and as many bare products alternate (A B B A …). Memory is compared
with a streaming read of the same size. The ratio is told with its 95% interval over the rounds.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pandas as pd
import torch
from ratios import shown

from xorbench.machine.probes.burn import SLOWER, TURN_S, TYPES, DeviceBurnIn, ProductUnit, quickest
from xorbench.machine.probes.memory import MemoryRegion, compiled
from xorbench.machine.probes.product import Products
from xorbench.recorder.environment import processor
from xorbench.report.text import to_markdown

ACCELERATOR_COPY: Final = 1 << 30


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", default="4096")
    options = parser.parse_args()
    device = torch.device(options.device)
    rows = [
        *_products(device, list(map(int, options.sizes.split(","))), options),
        _memory(device, options.rounds),
    ]
    sys.stdout.write(f"{processor()}, {torch.get_num_threads()} threads\n\n")
    sys.stdout.write(to_markdown(pd.DataFrame(rows, dtype=str)) + "\n")
    return 0


def _products(device: torch.device, sizes: list[int], options: Any) -> Iterator[dict[str, str]]:
    probe = DeviceBurnIn(str(device), [], 1.0, None, {})
    times = dict(probe.times())
    for dtype in (dtype for dtype in TYPES if dtype in times):
        if times[dtype] > SLOWER * times["float32"]:
            continue
        for size in sizes:
            products = Products(dtype, size, device)
            once = quickest(products)
            count = max(4, math.ceil(TURN_S / once))
            unit = ProductUnit(products, count, 0.0)

            def verified(number: int, unit: ProductUnit = unit) -> float:
                return unit.turn(number).seconds

            def bare(_number: int, products: Products = products, count: int = count) -> float:
                began = time.perf_counter()
                products.bare(count)
                products.settle()
                return time.perf_counter() - began

            yield {
                "what": f"{dtype}, {size} rows",
                "bare": f"{2 * size**3 / once / 1e12:.3g} TFLOP/s",
                "verified ÷ bare": _ratio(bare, verified, options.rounds),
                "n": str(options.rounds),
            }


def _memory(device: torch.device, rounds: int) -> dict[str, str]:
    """A march, read and written, against a streaming read; on a device against a copy."""
    region = MemoryRegion(device, ACCELERATOR_COPY, compiled() if device.type == "cpu" else None)
    other = torch.zeros_like(region.words)

    def march(_number: int) -> float:
        began = time.perf_counter()
        assert not list(region.march())
        return (time.perf_counter() - began) / region.moved

    def stream(_number: int) -> float:
        began = time.perf_counter()
        if device.type == "cpu":
            other.sum()
            return (time.perf_counter() - began) / region.size
        other.copy_(region.words)
        torch.accelerator.synchronize(device)
        return (time.perf_counter() - began) / (2 * region.size)

    stream(0)
    return {
        "what": "memory" + (" ÷ streaming read" if device.type == "cpu" else " ÷ copy"),
        "bare": f"{1e-9 / min(stream(0) for _ in range(5)):.3g} GB/s",
        "verified ÷ bare": _ratio(stream, march, rounds),
        "n": str(rounds),
    }


def _ratio(bare: Callable[[int], float], verified: Callable[[int], float], rounds: int) -> str:
    """How fast the verified one is, in parts of the bare one: geometric mean over the rounds."""
    ratios = []
    for number in range(-1, rounds):
        order = (bare, verified) if number % 2 else (verified, bare)
        seconds = {act: act(max(0, number)) for act in order}
        if number >= 0:  # the first warms up
            ratios.append(seconds[bare] / seconds[verified])
    return shown(ratios)


if __name__ == "__main__":
    sys.exit(main())
