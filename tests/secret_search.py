"""The search for secrets in everything that was said and written."""

from __future__ import annotations

import base64
import json
import secrets
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

SHORTEST, PIECE = 8, 14  # characters: what is no accident; how much of a longer secret counts as having it
KEY_FRAME = "-----"  # of the lines of a private key that are no secret
OWN_PASSWORD = "pässword/with+odd=characters&" + secrets.token_urlsafe(9)


def forms_of(secret: str) -> set[str]:
    """What a secret looks like on its ways: as it is, encoded, escaped, and cut at either end."""
    data = secret.encode()
    encoded = {
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        base64.b32encode(data).decode().rstrip("="),
        data.hex(),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        repr(data)[2:-1],
        secret.encode("unicode_escape").decode(),
        secret[::-1],
    }
    for shift in (1, 2):  # behind other bytes, as the password in "user:password"
        encoded.add(base64.b64encode(b"x" * shift + data).decode()[4:-4])
    forms = {secret, *encoded}
    forms |= {piece for form in forms if len(form) > 2 * PIECE for piece in (form[:PIECE], form[-PIECE:])}
    return {form for form in forms if len(form) >= SHORTEST}


def parts_of(private_key: str) -> set[str]:
    """The lines of a private key's text, but for its frame."""
    return {line for line in private_key.splitlines() if line and KEY_FRAME not in line}


class Search:
    """Looks for secrets in what was said and written."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self.places: list[tuple[str, str]] = []

    def know(self, name: str, secret: str) -> str:
        """Look for this one, too; a private key is looked for line by line."""
        for part in parts_of(secret) if KEY_FRAME in secret else {secret}:
            for form in forms_of(part):
                self._forms[form] = name
        return secret

    def note(self, place: str, content: object) -> None:
        """Keep something that was said, to be searched."""
        texts = {content if isinstance(content, str) else repr(content)}
        if not isinstance(content, str):
            with suppress(TypeError, ValueError):
                texts.add(json.dumps(content, ensure_ascii=False))
        self.places += [(place, text) for text in texts]

    def note_files(self, *folders: Path, ignore: Callable[[Path], bool] = lambda _: False) -> int:
        """Keep the names and contents of all files below; return how many there are."""
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not ignore(file)]
        for file in files:
            self.note(f"file {file}", f"{file}\n{file.read_bytes().decode('utf-8', 'backslashreplace')}")
        return len(files)

    def note_error(self, place: str, error: BaseException) -> None:
        """Keep everything that can be asked of an exception, and of those behind it."""
        self.note(place, "".join(traceback.format_exception(error)))
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            found = waiting.pop()
            if found is None or id(found) in seen:
                continue
            seen.add(id(found))
            said = [repr(found), str(found), repr(found.args), repr(vars(found)), repr(getattr(found, "message", ""))]
            self.note(f"{place}: {type(found).__name__}", "\n".join(said))
            waiting += [found.__cause__, found.__context__]

    @property
    def found(self) -> set[tuple[str, str, str]]:
        """Which secret was found where, and what stands before it there."""
        found = set()
        for place, text in self.places:
            first: dict[str, int] = {}
            for form, name in self._forms.items():
                at = text.find(form)
                if at >= 0:
                    first[name] = min(at, first.get(name, at))
            found |= {(name, place, text[max(0, at - 60) : at]) for name, at in first.items()}
        return found
