"""The edge hub's MQTT 3.1.1 side: amqtt's broker, as modules know the edge hub.

Three things differ from a plain broker, and each is one method here:

- The hub is the only peer. What a module publishes goes to the hub and not to other clients, and amqtt closes the
  connection of a client that publishes under `$`, where all of IoT Hub's topics are (`_handle_message_delivery`).
- amqtt registers a client before it looks at the result of the authentication, so that a refused client would
  disconnect the real one (`_handle_client_session`).
- When a client connects a second time, amqtt's clean-up of the first connection marks the session, which both share,
  as disconnected; the new connection then never receives anything (`_handle_client_session`, too).

The private methods are those of amqtt 0.12; the requirement is bounded accordingly.

Sessions and subscriptions outlive connections and `close`, as the edge hub keeps them in its store: azure-iot-device
never subscribes again after a reconnect. Messages are not kept for absent modules: the edge hub keeps neither method
calls nor twin changes. asyncio sets TCP_NODELAY on every connection by itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connack import NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.constants import QOS_1
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin

PORT = 8883
"""The port of MQTT over TLS; the SDK knows no other."""

_LISTENER = "default"
_CLOSE_LIMIT = 5.0

_log = logging.getLogger(__name__)


class Peer(Protocol):
    """What the broker needs of the hub behind it."""

    def authenticate(self, client_id: str, user_name: str, password: str) -> bool:
        """Say whether this client may connect."""

    def may_subscribe(self, client_id: str, topic_filter: str) -> bool:
        """Say whether this client may subscribe to this filter."""

    def may_publish(self, client_id: str, topic: str) -> bool:
        """Say whether this client may publish to this topic."""

    def received(self, client_id: str, topic: str, payload: bytes) -> None:
        """Take what a client has published."""

    def connection_changed(self, client_id: str) -> None:
        """Take note that a client has connected, subscribed or gone."""


class _Connection(StreamWriterAdapter):  # type: ignore[misc]
    """One client's connection, which can be cut."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self._transport = writer.transport
        self.ended = asyncio.Event()

    def abort(self) -> None:
        """Cut it, without a farewell."""
        self.is_closed = True
        self._transport.abort()


class ModuleBroker(Broker):  # type: ignore[misc]
    """Accepts modules over TLS, and passes messages between them and the hub. For one event loop."""

    def __init__(self, peer: Peer) -> None:
        plugins = {f"{__name__}.{plugin.__name__}": {"peer": peer} for plugin in (_Authentication, _Topics, _Events)}
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind="external")
        super().__init__(BrokerConfig(listeners={_LISTENER: listener}, plugins=plugins))
        self._peer = peer
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._connected: dict[str, _Connection] = {}
        self._publishing: set[asyncio.Future[Any]] = set()

    async def listen(self, address: str, context: ssl.SSLContext) -> None:
        """Accept connections to `address`. `OSError` if the port is taken."""
        self._listener = await asyncio.start_server(self._accept, address, PORT, ssl=context)

    async def close(self) -> None:
        """Accept no more connections and cut those that there are; the sessions stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        ends = [asyncio.ensure_future(connection.ended.wait()) for connection in connections]
        if ends:
            await asyncio.wait(ends, timeout=_CLOSE_LIMIT)

    async def drop(self, client_id: str) -> bool:
        """Cut the connection of a client; return whether there was one, once it is gone."""
        connection = self._connected.get(client_id)
        if connection is None:
            return False
        connection.abort()
        await connection.ended.wait()
        return True

    def is_connected(self, client_id: str) -> bool:
        """Say whether this client is connected."""
        # A session counts as connected from the moment that CONNACK is written, see Broker._handle_client_session.
        session, _ = self.sessions.get(client_id, (None, None))
        return client_id in self._connected and session is not None and session.transitions.state == "connected"

    def is_subscribed(self, client_id: str, topic: str) -> bool:
        """Say whether this client, connected or not, has subscribed to `topic`."""
        return any(
            session.client_id == client_id and topic.startswith(topic_filter.removesuffix("#"))
            for topic_filter, subscriptions in self.subscriptions.items()
            for session, _ in subscriptions
        )

    def deliver(self, client_id: str, topic: str, payload: bytes) -> bool:
        """Send to a client at QoS 1; return `False` if it is not connected or not subscribed."""
        if not (self.is_connected(client_id) and self.is_subscribed(client_id, topic)):
            return False
        _, handler = self.sessions[client_id]
        sending = asyncio.ensure_future(handler.mqtt_publish(topic, payload, QOS_1, retain=False))
        self._publishing.add(sending)
        sending.add_done_callback(self._sent)
        return True

    async def deliver_confirmed(self, client_id: str, topic: str, payload: bytes) -> bool:
        """Send to a client at QoS 1; return whether it has acknowledged the message, on this connection."""
        connection = self._connected.get(client_id)
        if connection is None or not (self.is_connected(client_id) and self.is_subscribed(client_id, topic)):
            return False
        _, handler = self.sessions[client_id]
        sending = asyncio.ensure_future(handler.mqtt_publish(topic, payload, QOS_1, retain=False))
        ended = asyncio.ensure_future(connection.ended.wait())
        try:
            await asyncio.wait({sending, ended}, return_when=asyncio.FIRST_COMPLETED)
            return sending.done() and sending.exception() is None
        finally:
            for waiting in (sending, ended):
                waiting.cancel()

    def _sent(self, sending: asyncio.Future[Any]) -> None:
        self._publishing.discard(sending)
        if not sending.cancelled() and sending.exception() is not None:
            _log.info("A message was not acknowledged: %s", sending.exception())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            await self.external_connected(StreamReaderAdapter(reader), connection, _LISTENER)
        except OSError as error:
            _log.info("A connection broke: %s", error)
        finally:
            connection.abort()
            self._connections.discard(connection)
            connection.ended.set()

    async def _handle_client_session(
        self,
        reader: StreamReaderAdapter,
        writer: _Connection,
        client_session: Any,
        *arguments: Any,
    ) -> None:
        client_id = client_session.client_id
        if not await self._authenticate(client_session, self.listeners_config[_LISTENER]):
            await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
            await writer.close()
            return
        while (previous := self._connected.get(client_id)) is not None:
            previous.abort()
            await previous.ended.wait()
        self._connected[client_id] = writer
        try:
            await super()._handle_client_session(reader, writer, client_session, *arguments)
        finally:
            if self._connected.get(client_id) is writer:
                del self._connected[client_id]
            self._peer.connection_changed(client_id)

    async def _handle_message_delivery(
        self,
        client_session: Any,
        _handler: object,
        wait_deliver: asyncio.Future[Any],
    ) -> bool:
        message = wait_deliver.result()
        if message is None:
            return True
        client_id = client_session.client_id
        if self._peer.may_publish(client_id, message.topic):
            self._peer.received(client_id, message.topic, bytes(message.data))
        else:
            _log.warning("%s is disconnected: it published to %r", client_id, message.topic)
            self._connected[client_id].abort()
        return True


@dataclass
class _PluginSettings:
    # Any, because amqtt builds this with dacite, which resolves annotations and knows no protocols.
    peer: Any = None


class _Authentication(BaseAuthPlugin):  # type: ignore[misc]
    """Asks the hub whether a client may connect."""

    Config = _PluginSettings

    async def authenticate(self, *, session: Any) -> bool:
        peer: Peer = self.config.peer
        return peer.authenticate(session.client_id or "", session.username or "", session.password or "")


class _Topics(BaseTopicPlugin):  # type: ignore[misc]
    """Asks the hub whether a client may subscribe."""

    Config = _PluginSettings

    async def topic_filtering(self, *, session: Any, topic: str, action: Action) -> bool:
        peer: Peer = self.config.peer
        return bool(action != Action.SUBSCRIBE or peer.may_subscribe(session.client_id, topic))


class _Events(BasePlugin):  # type: ignore[misc]
    """Informs the hub who connects and subscribes."""

    Config = _PluginSettings

    async def on_broker_client_connected(self, *, client_id: str, client_session: object) -> None:
        del client_session
        self.config.peer.connection_changed(client_id)

    async def on_broker_client_subscribed(self, *, client_id: str, topic: str, qos: int) -> None:
        del topic, qos
        self.config.peer.connection_changed(client_id)
