"""Start a process: `python -m xorbench.process REQUESTS ANSWERS LIFELINE OPERATIONS`.

The arguments are three file descriptors and the module with the operations.
"""

import atexit
import ctypes
import os
import sys

from xorbench.process.serve import serve, watch

if __name__ == "__main__":
    requests, answers, lifeline = map(int, sys.argv[1:4])
    watch(lifeline)
    serve(requests, answers, sys.argv[4])
    # Exit without destroying PyTorch's objects, which takes half a second per process.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)  # the output of libraries
    os._exit(0)
