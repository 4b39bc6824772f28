"""`python -m iot.sftp.command_line`."""

from __future__ import annotations

import sys

from iot.sftp.command_line import main

if __name__ == "__main__":
    sys.exit(main())
