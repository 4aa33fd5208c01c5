"""`python -m xorbench`, and the command `xorbench`: a process that ends with the command."""

import atexit
import gc
import sys
from typing import NoReturn

from xorbench.errors import BAD_INPUT, unsupported


def program() -> NoReturn:
    """Run the command line, and walk what stays neither meanwhile nor at the end.

    That takes a fifth of a report.
    """
    if refusal := unsupported(sys.platform):
        sys.stderr.write(f"xorbench: {refusal}\n")
        sys.exit(BAD_INPUT)
    from xorbench import cli  # it imports modules that Windows lacks

    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)
    cli.program()


if __name__ == "__main__":
    program()
