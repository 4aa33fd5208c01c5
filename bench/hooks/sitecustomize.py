"""Puts one of the faults of `alike` into each process that trains: EQUAL_FAULT=NAME:SIZE."""

import os
import sys

if "EQUAL_FAULT" in os.environ and "xorbench.process" in sys.orig_argv:
    import alike

    name, _, size = os.environ["EQUAL_FAULT"].partition(":")
    alike.FAULTS[name].change(float(size))
