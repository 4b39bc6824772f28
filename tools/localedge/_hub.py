"""The edge hub and IoT Hub in one: twins, direct methods and messages of the modules of one device."""

from __future__ import annotations

import datetime as dt
import json
import logging
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, quote, unquote, urlencode

from localedge._broker import ModuleBroker
from localedge._changes import Changes
from localedge._errors import HubError
from localedge._identity import ModuleIdentity
from localedge._inputs import ModuleInputs
from localedge._methods import REQUEST_TOPIC, RESPONSE_TOPIC, DirectMethods, MethodResponse
from localedge._routes import EVERYTHING, Routes
from localedge._tokens import TokenError, check_token
from localedge._twin import Document, Twin

TWIN_RESPONSE_TOPIC = "$iothub/twin/res/"
"""What begins the topic of an answer about the twin."""
TWIN_GET_TOPIC = "$iothub/twin/GET/"
"""Where a module asks for its twin."""
TWIN_REPORT_TOPIC = "$iothub/twin/PATCH/properties/reported/"
"""Where a module changes its reported properties."""
TWIN_DESIRED_TOPIC = "$iothub/twin/PATCH/properties/desired/"
"""Where a module learns of changed desired properties."""

_MESSAGES_KEPT = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A message that a module has sent, as IoT Hub would route it."""

    module: str
    output: str | None
    body: bytes
    properties: dict[str, str]
    """System properties under their names on the wire (`$.ct`), and the module's own."""
    received: dt.datetime


class Hub:
    """Knows the modules by their client ids, and holds what IoT Hub holds of them. For one event loop."""

    def __init__(
        self,
        modules: Mapping[str, ModuleIdentity],
        desired: Mapping[str, Document],
        routes: Sequence[str] = EVERYTHING,
    ) -> None:
        self._modules = {identity.client_id: identity for identity in modules.values()}
        self._twins = {
            identity.client_id: Twin(identity.device, identity.module, desired.get(name, {}))
            for name, identity in modules.items()
        }
        self._broker = ModuleBroker(self)
        self._methods = DirectMethods(self._broker.deliver)
        self._routes = Routes(routes)
        self._inputs = {
            client_id: ModuleInputs(partial(self._broker.deliver_confirmed, client_id)) for client_id in self._modules
        }
        self._stored: deque[Message] = deque(maxlen=_MESSAGES_KEPT)
        self._has_upstream = True
        self.messages: deque[Message] = deque(maxlen=_MESSAGES_KEPT)
        self.changes = Changes()
        self.refuses_tokens = False

    async def start(self) -> None:
        """Get ready; `listen` opens the port."""
        await self._broker.start()

    async def listen(self, address: str, context: ssl.SSLContext) -> None:
        """Accept modules at `address`."""
        await self._broker.listen(address, context)

    async def close(self) -> None:
        """Go away, as a hub that restarts: nobody can connect, what is known stays."""
        await self._broker.close()

    async def stop(self) -> None:
        """End for good."""
        for inputs in self._inputs.values():
            await inputs.stop()
        await self._broker.close()
        await self._broker.shutdown()

    # What callers from the service side ask for

    def client_id(self, device: str, module: str) -> str:
        """Return the client id of a module; `HubError` 404 if it is not registered."""
        client_id = f"{device}/{module}"
        if client_id not in self._modules:
            raise HubError.no_such_module(device, module)
        return client_id

    def twin(self, client_id: str) -> Twin:
        """Return a module's twin."""
        return self._twins[client_id]

    def twins(self) -> list[Twin]:
        """Return the twins of all modules."""
        return list(self._twins.values())

    def change_twin(self, client_id: str, request: object, *, etag: str = "*", replace: bool = False) -> Twin:
        """Change a twin's desired properties and tags, and tell the module."""
        twin = self._twins[client_id]
        patch = twin.change(request, etag=etag, replace=replace)
        if patch is not None:
            topic = f"{TWIN_DESIRED_TOPIC}?$version={patch['$version']}"
            self._broker.deliver(client_id, topic, json.dumps(patch).encode())
        self.changes.notify()
        return twin

    async def invoke(
        self, client_id: str, name: str, payload: bytes, *, timeout: float = 30, connect_timeout: float = 0
    ) -> MethodResponse:
        """Call a direct method; `HubError` if the module is not there or does not answer. Times in seconds."""
        await self.changes.until(lambda: self.is_ready(client_id), connect_timeout)
        return await self._methods.invoke(client_id, name, payload, timeout)

    def send_to_input(
        self, client_id: str, name: str, body: bytes, properties: Mapping[str, str], sender: str = ""
    ) -> None:
        """Send a message to a module's input, as a route of another module does."""
        identity = self._modules[client_id]
        origin = {"$.cdid": identity.device, "$.cmid": sender} if sender else {}
        encoded = urlencode({**properties, **origin}, quote_via=quote)
        self._inputs[client_id].put(f"{identity.input_topic}{quote(name, safe='')}/{encoded}", body)

    def waiting_for_inputs(self, client_id: str) -> int:
        """Return how many messages for its inputs a module has not acknowledged."""
        return self._inputs[client_id].waiting

    def is_connected(self, client_id: str) -> bool:
        """Say whether a module is connected."""
        return bool(self._broker.is_connected(client_id))

    def is_ready(self, client_id: str) -> bool:
        """Say whether a module is connected and takes direct methods."""
        return self.is_connected(client_id) and bool(self._broker.is_subscribed(client_id, REQUEST_TOPIC))

    async def drop(self, client_id: str) -> bool:
        """Cut a module's connection; return whether there was one, once it is gone."""
        return await self._broker.drop(client_id)

    # What the broker asks for: localedge._broker.Peer

    def check_caller(self, client_id: str, token: str) -> None:
        """Check the token that a module shows with a request over HTTPS. `TokenError` if it is refused."""
        identity = self._modules.get(client_id)
        if identity is None:
            raise TokenError(f"there is no module {client_id!r}")
        check_token(token, identity.resource, identity.key)

    def authenticate(self, client_id: str, user_name: str, password: str) -> bool:
        """Check the three things that a module shows when it connects."""
        identity = self._modules.get(client_id)
        if identity is None:
            _log.warning("A client is refused: there is no module %r", client_id)
            return False
        if self.refuses_tokens:
            _log.warning("%s is refused: all tokens are, at the moment", client_id)
            return False
        try:
            _check_user_name(user_name, identity)
            check_token(password, identity.resource, identity.key)
        except TokenError as error:
            _log.warning("%s is refused: %s", client_id, error)
            return False
        return True

    def may_subscribe(self, client_id: str, topic_filter: str) -> bool:
        """Say whether a module may subscribe: only to what is addressed to it, and only to all of it."""
        topics = (REQUEST_TOPIC, TWIN_RESPONSE_TOPIC, TWIN_DESIRED_TOPIC, self._modules[client_id].input_topic)
        return topic_filter in {f"{topic}#" for topic in topics}

    def may_publish(self, client_id: str, topic: str) -> bool:
        """Say whether a module may publish there."""
        telemetry_topic = self._modules[client_id].telemetry_topic
        return topic.startswith((RESPONSE_TOPIC, TWIN_GET_TOPIC, TWIN_REPORT_TOPIC, telemetry_topic))

    def received(self, client_id: str, topic: str, payload: bytes) -> None:
        """Carry out what a module has published."""
        if topic.startswith(RESPONSE_TOPIC):
            self._methods.answered(client_id, topic, payload)
        elif topic.startswith(TWIN_GET_TOPIC):
            body = json.dumps(self._twins[client_id].for_module()).encode()
            self._answer_twin(client_id, 200, f"?$rid={_request_id(topic)}", body)
        elif topic.startswith(TWIN_REPORT_TOPIC):
            self._report(client_id, _request_id(topic), payload)
        else:
            self._route(_message(self._modules[client_id], topic, payload))
        self.changes.notify()

    def set_upstream(self, *, connected: bool) -> None:
        """Cut the way to the cloud: messages are stored. Or open it: they arrive there."""
        self._has_upstream = connected
        if connected:
            self.messages.extend(self._stored)
            self._stored.clear()
        self.changes.notify()

    def _route(self, message: Message) -> None:
        if self._routes.lead_upstream(message.module, message.output):
            (self.messages if self._has_upstream else self._stored).append(message)
        for target in self._routes.targets(message.module, message.output):
            for client_id, identity in self._modules.items():
                if identity.module == target.module:
                    self.send_to_input(client_id, target.input, message.body, message.properties, message.module)

    def connection_changed(self, client_id: str) -> None:
        """Wake whoever waits for a module, and give up on calls to one that is gone."""
        if not self.is_connected(client_id):
            self._methods.connection_closed(client_id)
        self.changes.notify()

    def _report(self, client_id: str, request_id: str, payload: bytes) -> None:
        try:
            version = self._twins[client_id].patch_reported(_json(payload))
        except HubError as error:
            body = {"errorCode": error.code, "message": error.message}
            self._answer_twin(client_id, error.status, f"?$rid={request_id}", json.dumps(body).encode())
        else:
            self._answer_twin(client_id, 204, f"?$rid={request_id}&$version={version}", b"")

    def _answer_twin(self, client_id: str, status: int, query: str, body: bytes) -> None:
        self._broker.deliver(client_id, f"{TWIN_RESPONSE_TOPIC}{status}/{query}", body)


def _check_user_name(user_name: str, identity: ModuleIdentity) -> None:
    name, _, query = user_name.partition("/?")
    expected = f"{identity.hub}/{identity.client_id}"
    if name != expected:
        raise TokenError(f"the user name begins with {name!r}, not with {expected!r}")
    if "api-version" not in parse_qs(query):
        raise TokenError("the user name has no api-version")


def _request_id(topic: str) -> str:
    return parse_qs(topic.partition("?")[2]).get("$rid", [""])[0]


def _json(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise HubError.invalid(f"The payload is not JSON: {error}.") from None


def _message(identity: ModuleIdentity, topic: str, body: bytes) -> Message:
    pairs = [part.partition("=") for part in topic.removeprefix(identity.telemetry_topic).split("&") if part]
    properties = {unquote(name): unquote(value) for name, _, value in pairs}
    now = dt.datetime.now(dt.timezone.utc)
    return Message(identity.module, properties.pop("$.on", None), body, properties, now)
