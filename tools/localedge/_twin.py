"""A module twin: two documents with versions, the merge rule, and IoT Hub's limits.

Source: "Understand and use module twins in IoT Hub" and "IoT Hub limits" in the IoT Hub documentation. What is not
here: tags' own rules and the metadata of every single property; a twin carries the time of its last change only.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import re
from typing import Any

from localedge._errors import HubError

Document = dict[str, Any]
"""A JSON object."""

SIZE_LIMIT = 32 * 1024
"""Bytes of the desired and of the reported properties, each."""
DEPTH_LIMIT = 10
"""Objects inside one another."""
KEY_LIMIT = 1024
"""Bytes of a key."""
STRING_LIMIT = 4096
"""Bytes of a string."""
INTEGER_MINIMUM = -4503599627370496
"""The smallest integer, -2^52."""
INTEGER_MAXIMUM = 4503599627370495
"""The largest integer, 2^52 - 1."""

_FORBIDDEN_IN_KEY = re.compile(r"[.$# \x00-\x1f\x7f-\x9f]")
_READ_ONLY = ("$version", "$metadata")


def merge(document: Document, patch: Document) -> Document:
    """Return `document` with `patch` applied: RFC 7396, so `null` deletes and an object merges."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def difference(old: Document, new: Document) -> Document:
    """Return the patch that turns `old` into `new`."""
    patch: Document = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            inner = difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or not _same(before, value):
            patch[key] = copy.deepcopy(value)
    return patch


def _same(left: object, right: object) -> bool:
    """Compare as JSON does: `true` is not 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return left == right


def check_document(document: object, name: str) -> None:
    """Raise `HubError` (400, or 413 for the size) unless IoT Hub would store `document`, or take it as a patch."""
    if not isinstance(document, dict):
        raise HubError.invalid(f"{name} must be a JSON object, not {type(document).__name__}.")
    _check_object(document, name, depth=0)
    size = _size(document)
    if size > SIZE_LIMIT:
        raise HubError.too_large(f"{name} is {size} bytes; the limit is {SIZE_LIMIT} bytes (32 KB).")


def _check_object(value: Document, path: str, depth: int) -> None:
    if depth > DEPTH_LIMIT:
        raise HubError.invalid(f"{path} is nested deeper than {DEPTH_LIMIT} levels.")
    for key, inner in value.items():
        _check_key(key, path)
        _check_value(inner, f"{path}.{key}", depth)


def _check_key(key: str, path: str) -> None:
    length = len(_encoded(key))
    if not key or length > KEY_LIMIT:
        raise HubError.invalid(f"{path} has a key of {length} bytes; a key has 1 to {KEY_LIMIT}.")
    if _FORBIDDEN_IN_KEY.search(key):
        raise HubError.invalid(f"{path} has the key {key!r}; a key has no '.', '$', '#', space or control character.")


def _check_value(value: object, path: str, depth: int) -> None:
    if isinstance(value, dict):
        _check_object(value, path, depth + 1)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if item is None:
                raise HubError.invalid(f"{path}[{position}] is null; an array cannot hold null.")
            _check_value(item, f"{path}[{position}]", depth)
    elif isinstance(value, str) and len(_encoded(value)) > STRING_LIMIT:
        raise HubError.invalid(
            f"{path} is a string of {len(_encoded(value))} bytes; the limit is {STRING_LIMIT} (4 KB)."
        )
    elif isinstance(value, int) and not INTEGER_MINIMUM <= value <= INTEGER_MAXIMUM:
        raise HubError.invalid(f"{path} is {value}; an integer lies between {INTEGER_MINIMUM} and {INTEGER_MAXIMUM}.")


def _size(value: object) -> int:
    """Return the size as IoT Hub counts it: keys and strings in UTF-8, 8 bytes a number, 4 a boolean."""
    if isinstance(value, dict):
        return sum(len(_encoded(key)) + _size(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, str):
        return len(_encoded(value))
    if value is None:
        return 0
    return 4 if isinstance(value, bool) else 8


def _encoded(text: str) -> bytes:
    # JSON can write half of a surrogate pair, which UTF-8 cannot.
    return text.encode("utf-8", "surrogatepass")


class _Section:
    """The desired or the reported properties: a document and its version."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document: Document = {}
        self.version = 1
        self.changed = _now()

    def replace(self, document: Document) -> None:
        """Store `document` as the next version, within the limits."""
        check_document(document, self.name)
        self.document = document
        self.version += 1
        self.changed = _now()

    def patch(self, patch: object) -> None:
        """Store the document with `patch` applied as the next version, within the limits."""
        check_document(patch, self.name)
        assert isinstance(patch, dict)  # noqa: S101 - checked in the line above
        self.replace(merge(self.document, patch))

    def for_module(self) -> Document:
        """Return the document as a module sees it, with `$version`."""
        return {**copy.deepcopy(self.document), "$version": self.version}

    def view(self) -> Document:
        """Return the document as a caller of the REST API sees it, with `$metadata` too; nothing is copied."""
        return {**self.document, "$version": self.version, "$metadata": {"$lastUpdated": self.changed}}


class Twin:
    """The twin of one module. Versions begin with 1 and rise with every accepted change."""

    def __init__(self, device: str, module: str, desired: Document) -> None:
        self._device = device
        self._module = module
        self._desired = _Section("properties.desired")
        self._reported = _Section("properties.reported")
        self._tags: Document = {}
        self._revision = 1
        check_document(desired, self._desired.name)
        self._desired.document = copy.deepcopy(desired)

    @property
    def desired(self) -> Document:
        """The desired properties with `$version`."""
        return self._desired.for_module()

    @property
    def reported(self) -> Document:
        """The reported properties with `$version`."""
        return self._reported.for_module()

    @property
    def etag(self) -> str:
        """The mark of this state of the desired properties and tags."""
        return base64.b64encode(self._revision.to_bytes(8, "big")).decode()

    def for_module(self) -> Document:
        """Return what a module gets when it asks for its twin."""
        return {"desired": self.desired, "reported": self.reported}

    def for_service(self) -> Document:
        """Return what the REST API answers."""
        return copy.deepcopy(self.view())

    def view(self) -> Document:
        """Return the same for reading only: nothing is copied, as a query looks at thousands of twins for each page."""
        return {
            "deviceId": self._device,
            "moduleId": self._module,
            "etag": self.etag,
            "version": self._revision,
            "tags": self._tags,
            "properties": {"desired": self._desired.view(), "reported": self._reported.view()},
        }

    def patch_reported(self, patch: object) -> int:
        """Merge the module's own `patch`; return the new version."""
        self._reported.patch(patch)
        return self._reported.version

    def change(self, request: object, *, etag: str = "*", replace: bool = False) -> Document | None:
        """Carry out a PATCH or a PUT of the REST API; return the patch for the module, if desired changed.

        `request` has the form of a twin; its read-only parts are ignored, as a caller sends back what it has read.
        """
        if etag not in ("*", self.etag):
            raise HubError.etag_mismatch()
        tags, desired = _writable_parts(request)
        before, patch = self._desired.document, None
        if desired is not None:
            if replace:
                self._desired.replace(copy.deepcopy(desired))
                desired = difference(before, self._desired.document)
            else:
                self._desired.patch(desired)
            patch = {**desired, "$version": self._desired.version}
        if tags is not None:
            self._tags = merge({} if replace else self._tags, tags)
        self._revision += 1
        return patch


def _writable_parts(request: object) -> tuple[Document | None, Document | None]:
    if not isinstance(request, dict):
        raise HubError.invalid("The body must be a twin: a JSON object with properties.desired or tags.")
    properties = request.get("properties") or {}
    tags = request.get("tags")
    if not isinstance(properties, dict) or not isinstance(tags, (dict, type(None))):
        raise HubError.invalid("properties and tags must be JSON objects.")
    desired = properties.get("desired")
    if isinstance(desired, dict):
        desired = {key: value for key, value in desired.items() if key not in _READ_ONLY}
    elif desired is not None:
        raise HubError.invalid(f"properties.desired must be a JSON object, not {type(desired).__name__}.")
    return tags, desired


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
