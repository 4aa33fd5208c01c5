"""Start a worker: `python -m xorbench.worker REQUESTS ANSWERS LIFELINE`, all file descriptors."""

import sys

from xorbench.worker.serve import serve, watch

if __name__ == "__main__":
    requests, answers, lifeline = map(int, sys.argv[1:])
    watch(lifeline)
    serve(requests, answers)
