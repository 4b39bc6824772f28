"""Work in steps, which gives way where it would wait: so one thread has many files in flight.

Such work is a generator. It yields the future of an answer before it waits for that. Whoever runs it may do a step of
other work meanwhile, or none: it waits by itself for what it needs, so that this changes when it is done, and never
what is done.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

# It receives whether other work is done in steps beside it
Steps = Generator[Future[Any] | None, bool | None, Result]

# What is yielded to be continued when all work beside it has ended: that may have what this work needs
ALONE = None
# What is yielded where there is no answer to wait for: a further step of all work at once costs less than one by one
TOGETHER: Future[Any] = Future()
TOGETHER.set_result(None)
# What is yielded to be continued, with all that wait like this, when nothing else is under way: it has to wait for time
LATER: Future[Any] = Future()
LATER.set_result(None)


def finish(steps: Steps[Result]) -> Result:
    """Do all steps, one behind the other, and return what they result in."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: Result = end.value
        return result
