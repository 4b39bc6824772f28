"""`python -m quick`: run the tests of what differs from the main branch; `make quick` calls it after `make lint`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from quick import changed_files, select_tests

ROOT = Path(__file__).parents[2]
NO_TESTS = 5  # pytest's status where every test needs a marker


def main() -> int:
    """Select and run; return pytest's exit status."""
    parser = argparse.ArgumentParser(prog="make quick", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="that the tests may take; default: %(default)g")
    parser.add_argument("--since", help="a commit to compare with; default: where this branch left the main branch")
    parser.add_argument("--list", action="store_true", help="only print the test files")
    options = parser.parse_args()
    changed = changed_files(ROOT, options.since)
    files = select_tests(changed, ROOT)
    print(f"quick: {len(changed)} files changed, {len(files)} test files are about them", flush=True)
    if options.list or not files:
        print("\n".join(files))
        return 0
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "quick.durations", "--numprocesses", "logical"]
    command += ["--dist", "worksteal", "--seconds", str(options.seconds), *files]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own words
    return 0 if status == NO_TESTS else status


if __name__ == "__main__":
    sys.exit(main())
