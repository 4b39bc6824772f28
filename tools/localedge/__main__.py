"""`python -m localedge`."""

from __future__ import annotations

from localedge._command_line import main

if __name__ == "__main__":
    main()
