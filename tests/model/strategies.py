"""What the machines choose from."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st
from tests.model.contents import LARGE, SIZES
from tests.model.log_books import ROTATIONS
from tests.model.people import NAMES, WAYS
from tests.model.server import Moment

KINDS = ("open", "read", "write", "close", "fstat", "setstat", "stat", "list", "remove", "rename", "mkdir")
AGE = 60.0  # seconds, where files are left alone until they are complete
DAYS = 86_400.0  # seconds of one


class Event(NamedTuple):
    """Something that happens during a run, at a moment of the server's.

    Attributes:
        moment: when.
        what: `cut`, `full`, `refuse`, `make`, `begin`, `remove`, `take` or `leave`; to a log `write` or `rotate`.
        name: of the file that it happens to, where it happens to one.
        way: how a producer makes a new version, or rotates a log.
    """

    moment: Moment
    what: str = "cut"
    name: str = NAMES[0]
    way: str = WAYS[0]


class Made(NamedTuple):
    """What a producer makes: see `Producer.make`."""

    name: str = NAMES[0]
    way: str = WAYS[0]
    size: int = SIZES[1]
    quiet: bool = True


names = st.sampled_from((NAMES[0], *NAMES))
ways = st.sampled_from(WAYS)
sizes = st.sampled_from((*SIZES, SIZES[1], LARGE))
small = st.sampled_from(SIZES)
moments = st.builds(
    Moment, st.sampled_from((*KINDS, "rename", "write", "read")), st.sampled_from((1, 1, 2, 3, 6)), st.booleans()
)
what = st.sampled_from(("cut", "cut", "cut", "full", "refuse", "make", "make", "begin", "remove", "take", "leave"))
events = st.lists(st.builds(Event, moments, what, names, ways), max_size=3, unique_by=lambda event: event.moment)
made = st.builds(Made, names, ways, sizes, st.booleans())
first = st.lists(made, max_size=3)
orders = st.builds(
    Made,
    st.sampled_from(NAMES[:2]),
    st.sampled_from(("replaced", "replaced, same size", "replaced, same size and time")),
    small,
    st.booleans(),
)
order_moments = st.sampled_from(
    [Moment(kind, 1, after=True) for kind in ("remove", "rename")] * 2
    + [Moment("stat", number, after) for number in (1, 2, 3) for after in (True, False)]
)
order_events = st.lists(
    st.builds(
        Event,
        order_moments,
        st.sampled_from(("cut", "cut, order", "cut, order", "order", "refuse")),
        st.sampled_from(NAMES[:2]),
        st.sampled_from(("replaced", "replaced, same size")),
    ),
    max_size=2,
    unique_by=lambda event: event.moment,
)
seconds = st.sampled_from((1.0, AGE + 40, AGE + 40, 40 * DAYS, -40 * DAYS, -3_600.0))
log_sizes = st.sampled_from((SIZES[0], SIZES[1], SIZES[1], 300_000))
log_what = st.sampled_from(("cut", "cut", "full", "refuse", "write", "rotate"))
log_events = st.lists(
    st.builds(Event, moments, log_what, st.just(NAMES[0]), st.sampled_from(ROTATIONS)),
    max_size=3,
    unique_by=lambda event: event.moment,
)
