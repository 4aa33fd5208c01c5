"""How large this process has grown."""

import resource
import sys


def usage(_session: object) -> dict[str, int]:
    """The highest memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024}
