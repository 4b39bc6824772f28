"""The command: runs the targets one after the other, each in a process of its own, and tells what broke."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

from fuzzing import TARGETS

CORPUS = Path(__file__).parent / "corpus"
NO_ATHERIS = (
    "there is no atheris here: it has wheels for Linux on x86_64 with CPython 3.11 to 3.14 only. Name one of these: "
    "make PYTHON=python3.11 fuzz. What was found before is checked by `make test`, everywhere."
)


def main() -> None:
    """Run what the options ask for."""
    options = _options()
    if importlib.util.find_spec("atheris") is None:
        sys.exit(f"fuzzing: {NO_ATHERIS}")
    if options.only is not None:
        _search(options.only, options)
        return
    broken = [target for target in options.targets if not _run(target)]
    if broken:
        sys.exit(f"fuzzing: {', '.join(broken)} broke: the input that did it is in {options.output}/<target>/broken-*")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target; default: %(default)s")
    parser.add_argument("--targets", type=_targets, default=list(TARGETS), help=f"some of {','.join(TARGETS)}")
    parser.add_argument(
        "--output", type=Path, default=Path("build/fuzzing"), help="what was found; default: %(default)s"
    )
    parser.add_argument("--longest", type=int, default=4096, help="bytes of an input; default: %(default)s")
    parser.add_argument("--only", choices=TARGETS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _targets(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        message = f"{', '.join(unknown)}: there are {', '.join(TARGETS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _run(target: str) -> bool:
    """Search in a process of its own: the search ends its process."""
    print(f"fuzzing: {target}", flush=True)
    command = [sys.executable, "-m", "fuzzing", *sys.argv[1:], "--only", target]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - it is ourselves


def _search(target: str, options: argparse.Namespace) -> None:
    import atheris  # noqa: PLC0415 - only where there is one

    with atheris.instrument_imports(include=["iot.sftp", "fuzzing", "paramiko"]):
        module = importlib.import_module(f"fuzzing.{target}")
    found = options.output / target
    found.mkdir(parents=True, exist_ok=True)
    words = found / "words"
    words.write_text("".join(f"{_quoted(word)}\n" for word in dict.fromkeys(module.WORDS)))
    inputs = found / "corpus"
    inputs.mkdir(exist_ok=True)
    arguments = {
        "max_total_time": options.seconds,
        "max_len": options.longest,
        "rss_limit_mb": 1024,
        "timeout": 10,
        "dict": words,
        "artifact_prefix": f"{found}/broken-",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in arguments.items()), str(inputs), str(CORPUS / target)],
        module.check,
    )
    atheris.Fuzz()


def _quoted(word: str) -> str:
    """Write a word as libFuzzer's dictionaries have it."""
    data = word.encode("latin-1")
    return '"' + "".join(chr(b) if 32 < b < 127 and chr(b) not in '"\\' else f"\\x{b:02x}" for b in data) + '"'


if __name__ == "__main__":
    main()
