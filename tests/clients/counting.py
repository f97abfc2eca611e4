"""Counts the requests that clients make, each for the check that makes it, so that checks which wait can wait together."""

import threading
from concurrent.futures import ThreadPoolExecutor

made = []
_here = threading.local()


def count(request):
    """A hook of the HTTP client: it is called in the thread of the check."""
    made.append(request)
    _here.made = here() + 1


async def count_async(request):
    """The same for clients that are asynchronous."""
    count(request)


def here():
    """Requests that this thread has made."""
    return getattr(_here, "made", 0)


def together(*checks):
    """Runs checks at the same time; the first that does not hold ends the run with an error."""
    with ThreadPoolExecutor(len(checks)) as pool:
        for done in [pool.submit(check) for check in checks]:
            done.result()
