"""Searches for input that breaks us: coverage-guided fuzzing with atheris. `make fuzz` runs it.

Each target is one file with a function `check(data)`, which takes any bytes and raises only where something is wrong;
its `WORDS` help the search. `corpus/<target>/` holds what has been useful or wrong once, and
`tests/hostile/test_corpus.py` checks that with every `make test`.
"""

from __future__ import annotations

TARGETS = ("methods", "twins", "replies", "listings", "host_keys", "server_keys", "known_hosts", "records")
