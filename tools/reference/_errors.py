"""The page of errors: the module's codes with their statuses, and what each implies, from the classes and tables."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from iot.sftp.client import SFTPError, error_classes
from iot.sftp.module._methods.idempotency import RequestIdConflict
from iot.sftp.module._methods.statuses import STATUSES
from iot.sftp.module._work.advice import ADVICE

_OPENING = """\
# Errors

Every reason why a call, a task or a rule fails. Made by `make reference` from the source. The module answers a call
with the status and the code; the library leaves an error of the class in `last_error`, and `SFTPSession` raises it. A
failure never has another name, and a lower layer's exception never reaches a caller. More about each is at the [direct
methods](direct-methods.md#the-errors), and for operators in [operate](operate.md#errors).

| code | status | when | what to do |
| --- | --- | --- | --- |
"""
_IMPLICATIONS = """
What each implies, for programs: where the cause is, whether and when a task or a rule retries, and whether the
operation may have been carried out all the same.

| code | class | the cause is in | retried | may have been carried out |
| --- | --- | --- | --- | --- |
"""
_CLOSING = """
The classes above these, such as `TransportError` and `FileError`, are there to be caught: [the Python
API](api.md#errors) has them all.

IoT Hub itself answers with two more, without a `code`: 404 when the module is not connected, and 504 when it does not
answer within the caller's own timeout.
"""


def error_page() -> str:
    """Return the page."""
    classes = {code: _class_of(code) for code in STATUSES}
    when = (f"| `{code}` | {STATUSES[code]} | {_summary(one)} | {ADVICE[code]} |\n" for code, one in classes.items())
    return "".join((_OPENING, *when, _IMPLICATIONS, *_implications(classes), _CLOSING))


def _implications(classes: dict[str, type[SFTPError]]) -> Iterator[str]:
    for code, one in classes.items():
        doubt = "yes" if one.leaves_doubt else "no"
        yield f"| `{code}` | `{one.__name__}` | {one.fault.value} | {one.retry.value} | {doubt} |\n"


def _class_of(code: str) -> type[SFTPError]:
    """Return the class that a code is the name of: the uppermost one that has it."""
    return next(
        one for one in (*error_classes(), RequestIdConflict) if vars(one).get("code") == code and one is not SFTPError
    )


def _summary(one: type[SFTPError]) -> str:
    """Return the first paragraph of a class's docstring, on one line."""
    return " ".join((inspect.getdoc(one) or "").partition("\n\n")[0].split())
