"""xorbench: does this PyTorch machine train right, to the same bits, and as fast as it should?"""

from typing import Final

__version__: Final = "0.1.0"
