"""Start a process: `python -m xorbench.process REQUESTS ANSWERS LIFELINE OPERATIONS`.

Three file descriptors, and the module that answers.
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
    # Leave at once: to take PyTorch apart would take half a second, in every process.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)  # what libraries printed
    os._exit(0)
