"""A probe: results of a device compared with the exact results."""

import torch
from xorbench.machine.probes.check import ProbeResult
from xorbench.machine.universal.golden import Checked

COUNT = 4096


def halves_are_exact(device: torch.device) -> ProbeResult:
    """Half of a whole number below 2**23 is exact in float32: doubling it restores the number."""
    whole = torch.arange(COUNT, dtype=torch.float32, device=device)
    back = ((whole / 2) * 2).cpu().tolist()
    wrong = [
        Checked(f"half of {number}", str(number), str(result / 2))
        for number, result in enumerate(back)
        if result != number
    ]
    return ProbeResult("halving", COUNT, wrong, skipped=[], unjudged=[])
