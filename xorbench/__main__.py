"""`python -m xorbench`, and the command `xorbench`: a process that ends with the command."""

import atexit
import gc
from typing import NoReturn

from xorbench import cli


def program() -> NoReturn:
    """Run the command line, and walk what stays neither meanwhile nor at the end.

    That takes a fifth of a report.
    """
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)
    cli.program()


if __name__ == "__main__":
    program()
