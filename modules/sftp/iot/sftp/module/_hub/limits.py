"""The time limits of the connection to the edge hub: the SDK has none for most of what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HubLimits:
    """Timeouts and limits, in seconds where nothing else is said.

    Attributes:
        create: for a client: the workload API is asked for a trust bundle and a signature.
        connect: for a connection; the SDK gives up one without CONNACK after 60.
        subscribe: for the acknowledgement of a subscription, and for a probe's way through the SDK.
        twin: for an answer about the twin.
        response: for the acknowledgement of a method's response.
        send: for the acknowledgement of a message.
        shutdown: for the end of a client.
        sdk_reconnect: for the SDK's own reconnect, as when it renews its token; after 0.02 it tries only every 10.
        probe_interval: between two probes of a connection that seems to be healthy.
        twin_timeouts: twin requests without an answer, one after the other, after which the client is replaced.
        failed_probes: probes, one after the other, that fail until the process exits.
        give_up: until the process exits, when the hub or the SDK refuse or do not answer.
        give_up_unreachable: the same, when nothing listens at the hub's address. The edge agent forgets restarts
            after 600.
    """

    create: float = 90.0
    connect: float = 90.0
    subscribe: float = 30.0
    twin: float = 15.0
    response: float = 30.0
    send: float = 30.0
    shutdown: float = 2.0
    sdk_reconnect: float = 1.0
    probe_interval: float = 120.0
    twin_timeouts: int = 3
    failed_probes: int = 3
    give_up: float = 300.0
    give_up_unreachable: float = 900.0
