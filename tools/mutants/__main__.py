"""The command: changes one place of a module in a copy of the project, runs the tests that hold it, and reports.

A mutant is killed when a test fails or takes too long, and survives when all pass: then a test is missing, or nothing
that anybody could see is different. Somebody has to read the survivors and judge: see docs/reliability.md.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items as all_work_items  # it has no other name
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

from mutants import CORE

SOURCES = Path("modules/sftp/iot/sftp")
COPIED = ("modules", "tests", "tools", "benchmarks", "examples", "fuzzing", "docs", "pyproject.toml", "README.md")


def main() -> None:
    """Run what the options ask for."""
    options = _options()
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for copy in output.glob("copy-*"):
        shutil.rmtree(copy)
    with ProcessPoolExecutor(options.processes, initializer=_work_in_a_copy, initargs=(output,)) as executor:
        for name in options.modules:
            started = time.monotonic()
            limit = executor.submit(_limit, name).result()
            mutants = _mutants(name)
            chosen = random.Random(options.seed).sample(mutants, min(options.sample or len(mutants), len(mutants)))  # noqa: S311 - nothing secret
            results, report = [], _report(name, len(mutants), [], 0.0)
            for result in executor.map(_try, chosen, [name] * len(chosen), [limit] * len(chosen)):
                results.append(result)
                report = _report(name, len(mutants), results, time.monotonic() - started)
                (output / f"{Path(name).name}.md").write_text(report)  # as they come: some take hours
            print(report.splitlines()[0], flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--modules", type=_modules, default=list(CORE), help=f"some of {','.join(CORE)}")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module, chosen at random; default: all")
    parser.add_argument("--seed", default="0", help="decides which; default: %(default)s")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("build/mutants"), help="default: %(default)s")
    return parser.parse_args()


def _modules(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in CORE]
    if unknown:
        message = f"{', '.join(unknown)}: there are {', '.join(CORE)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _work_in_a_copy(output: Path) -> None:
    """Have this process work in a copy of its own, so that no mutant is left in the sources, whatever happens."""
    copy = output / f"copy-{os.getpid()}"
    for name in COPIED:
        if Path(name).is_dir():
            shutil.copytree(name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(name, copy / name)
    os.environ["PYTHONPATH"] = str(copy / "modules/sftp")  # before the installed one, for the module's processes too
    os.environ["MUTANTS_PYTHON"] = str(Path(".venv/bin/python").absolute())
    os.chdir(copy)


def _command(name: str) -> str:
    files = " ".join(f"tests/{file}" for file in CORE[name])
    return f"{os.environ['MUTANTS_PYTHON']} -m pytest -q -x -p no:cacheprovider -p no:xdist {files}"


def _path(name: str) -> Path:
    return SOURCES / f"{name}.py"


def _limit(name: str) -> float:
    """Return the seconds that the tests may take: they pass without a mutant, and fail if the module is broken."""
    started = time.monotonic()
    outcome, output = run_tests(_command(name), 600)
    if outcome is not TestOutcome.SURVIVED:
        sys.exit(f"mutants: the tests fail without any mutant:\n{output}")
    seconds = time.monotonic() - started
    source = _path(name).read_text()
    _path(name).write_text(source + "\nraise AssertionError\n")
    broken, _ = run_tests(_command(name), 600)
    _path(name).write_text(source)
    if broken is not TestOutcome.KILLED:
        sys.exit(f"mutants: the tests do not run with the copy of {name}")
    return 3 * seconds + 20


def _mutants(name: str) -> list[MutationSpec]:
    """Return all changes of a module but those of annotations, which nothing evaluates."""
    path = _path(name)
    unseen = set(_lines_and_columns_of_annotations(ast.parse(path.read_text())))
    specs = [item.mutations[0] for item in all_work_items([path], {})]
    return [spec for spec in specs if not any(begin <= spec.start_pos < end for begin, end in unseen)]


def _lines_and_columns_of_annotations(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(annotation, ast.expr):
                end = annotation.end_lineno or annotation.lineno, annotation.end_col_offset or 0
                yield (annotation.lineno, annotation.col_offset), end


def _try(mutant: MutationSpec, name: str, limit: float) -> WorkResult:
    return mutate_and_test([mutant], _command(name), limit)


def _report(name: str, possible: int, results: list[WorkResult], seconds: float) -> str:
    """Return a row of a table, and below it what each survivor changes."""
    tried = [result for result in results if result.test_outcome is not None]
    survivors = [result.diff or "" for result in tried if result.test_outcome is TestOutcome.SURVIVED]
    too_long = sum(result.output == "timeout" for result in tried)
    counts = [possible, len(tried), len(tried) - len(survivors), too_long, len(survivors)]
    row = f"| `{name}` | {' | '.join(map(str, counts))} | {seconds / 60:.0f} min |"
    return "\n\n".join([row, *(f"```diff\n{diff}\n```" for diff in survivors)]) + "\n"


if __name__ == "__main__":
    main()
