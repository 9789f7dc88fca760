"""Every mechanical mutation of the formula modules, by cosmic-ray's operators: what do the tests not notice?

    pip install cosmic-ray
    python tests/mutants/sweep.py scratchgen/distributions/gaussian.py … [--jobs N] [--out FILE]

For each number, operator and comparison of a module, all that cosmic-ray would put in its place; run against the
tests of the equations that the module implements.  Minutes per module.  What survives is printed as a patch: a hole
in the tests, or a change that changes nothing; docs/mutants.md lists the latter with the reason.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import run
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

LEFT_OUT = ("RemoveDecorator", "Exception", "Variable", "Break", "Continue", "RShift", "LShift", "_BitXor")
"""Operators that make no formula wrong, or only make NumPy refuse."""

PATIENCE = 4.0
"""A mutation loops for ever if its tests take this many times as long as those of the true source."""
LONGEST = 900.0
"""Seconds that the tests of a true source may take."""


def behaviour(source: str) -> str:
    """The syntax tree without docstrings, annotations and error messages: what a formula can depend on."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)  # type: ignore[assignment]
        if isinstance(node, ast.Raise):
            node.exc = None
    return ast.dump(tree)


def mutations(path: Path) -> Iterator[tuple[str, str]]:
    """(operator, mutated source) for everything that cosmic-ray can change in a module."""
    source = path.read_text("utf-8")
    seen = {behaviour(source)}
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if any(part in name for part in LEFT_OUT) or operator_class.arguments():
            continue
        operator = operator_class()
        count = sum(1 for node in ast_nodes(get_ast(source)) for _ in operator.mutation_positions(node))
        for occurrence in range(count):
            mutated = mutate_code(source, operator, occurrence)
            if mutated is None:
                continue
            try:
                meaning = behaviour(mutated)
            except SyntaxError:
                continue
            if meaning not in seen:
                seen.add(meaning)
                yield name.removeprefix("core/"), mutated


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("modules", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="survivors and counts, as JSON")
    options = parser.parse_args()
    ledger = run.load_ledger()
    whole, files = ledger.Ledger.load(run.ROOT), ledger.files_by_id(run.ROOT)
    run.warm()
    began, counts, survivors = time.monotonic(), Counter(killed=0, survived=0), []
    for path in options.modules:
        file = str(path.resolve().relative_to(run.ROOT))
        module = file.removesuffix(".py").replace("/", ".")
        ids = [e.id for e in whole.equations.values() if any(name.startswith(module + ":") for name in e.code)]
        counted = Counter(test for id in ids for test in files[id])
        judges = [test for test, _ in counted.most_common()]  # the file with most equations kills most, so it is first
        if not judges:
            print(f"sweep: no equation of the ledger has its code in {file}", file=sys.stderr)
            return 2
        run.TIMEOUT = LONGEST
        (true,) = run.run_jobs([run.Job(-1, "*", None)], {"*": judges}, 1)
        if true.outcome != "passed":
            print(f"sweep: the tests of {file} fail as it is: {true.by}", file=sys.stderr)
            return 2
        run.TIMEOUT = max(60.0, PATIENCE * true.seconds)
        source = path.read_text("utf-8")
        made = list(mutations(path))
        # the files of the module's equations, whole: also the tests of gradients, of extremes, of refusals
        jobs = [
            run.Job(n, "*", ledger.Mutant("*", kind, file, source, mutated)) for n, (kind, mutated) in enumerate(made)
        ]
        for verdict in run.run_jobs(jobs, {"*": judges}, options.jobs):
            counts[verdict.outcome] += 1
            if verdict.outcome != "killed":
                kind, mutated = made[verdict.number]
                found = {"file": file, "kind": kind, "outcome": verdict.outcome, "patch": patch(source, mutated)}
                survivors.append(found)
                print(f"{verdict.outcome}: {kind}: {file}\n{found['patch']}", flush=True)
        print(f"{file}: {len(made)} mutations, {dict(counts)}, {time.monotonic() - began:.0f} s", flush=True)
    if options.out:
        everything = {"counts": counts, "survivors": survivors}
        options.out.write_text(json.dumps(everything, indent=1, ensure_ascii=False), "utf-8")
    return 1 if survivors else 0


def patch(old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


if __name__ == "__main__":
    sys.exit(main())
