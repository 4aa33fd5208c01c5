"""Start a worker: `python -m xorbench.worker REQUESTS ANSWERS LIFELINE OPERATIONS`.

Three file descriptors, and the module that answers.
"""

import sys

from xorbench.worker.serve import serve, watch

if __name__ == "__main__":
    requests, answers, lifeline = map(int, sys.argv[1:4])
    watch(lifeline)
    serve(requests, answers, sys.argv[4])
