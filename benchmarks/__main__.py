"""The command line: python -m benchmarks [WORKLOAD …]"""

from __future__ import annotations

import click

from benchmarks import measure as m
from benchmarks import workloads
from benchmarks.contenders import CONTENDERS


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(workloads.NAMES))
@click.option("--contenders", default=",".join(CONTENDERS))
@click.option("--steps", default=60)
def main(names, contenders, steps):
    plan = m.Plan(steps=steps)
    for name in names or workloads.NAMES:
        row = m.measure(name, contenders.split(","), plan, lambda t: None)
        ref = "replayed" if "replayed" in row.rounds else "ours"
        print(row.title, f"  (load {row.load[0]:.1f} -> {row.load[1]:.1f}, judge {row.judge})")
        for c in row.rounds:
            t, r = m.times(row, c), m.ratio(row, c, ref)
            print(f"   {c:14s} {1e3 * t.median:9.3f} ms [{1e3 * t.low:.3f}, {1e3 * t.high:.3f}]"
                  f"   x{r.median:.2f} [{r.low:.2f}, {r.high:.2f}]  agree {row.agreement.get(c, 0):.2g}"
                  f"  mem {row.memory[c]['above_imports']:.0f} of {row.memory[c]['peak']:.0f}", flush=True)
        for c, why in row.problems.items():
            print(f"   {c:14s} {why}", flush=True)


main()
