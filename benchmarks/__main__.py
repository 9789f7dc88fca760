"""The command line: python -m benchmarks [WORKLOAD …]"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import report, workloads
from benchmarks.contenders import CONTENDERS
from benchmarks.device import PRECISIONS, Place
from benchmarks.measure import Plan, Row, ceilings, environment, measure
from benchmarks.worker import Failed
from benchmarks.workload import SIZES, grown
from scratchgen.backend import BackendError, get

FILE = click.Path(path_type=Path, dir_okay=False)
BACKENDS = ("cupy", "strict")  # strict: the same path without a device, for tests
QUICK = {"steps": 6, "rounds": 3, "seconds": 0.02, "warm": 0.02}


def some_of(known: Collection[str]) -> Callable[..., list[str]]:
    """The callback of an option that takes a list with commas."""

    def chosen(_: Any, __: Any, text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise click.BadParameter(f"{name!r} is not one of {', '.join(known)}")
        return names

    return chosen


def backend(_: Any, __: Any, name: str) -> str:
    if name not in ("numpy", *BACKENDS):
        raise click.BadParameter(f"{name!r} is not numpy or cupy")
    return name


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", metavar="[WORKLOAD]...", nargs=-1, type=click.Choice(workloads.NAMES))
@click.option("--contenders", default=",".join(CONTENDERS), callback=some_of(CONTENDERS), show_default=True,
              metavar="A,B,…", help="Who takes part.")
@click.option("--steps", type=click.IntRange(min=1), default=Plan.steps, show_default=True,
              help="Steps to time, at least, of each contender.")
@click.option("--rounds", type=click.IntRange(min=1), default=Plan.rounds, show_default=True,
              help="Turns that they are spread over.")
@click.option("--threads", type=click.IntRange(min=1), default=Plan.threads, show_default=True,
              help="Of each contender, each on a core of its own.")
@click.option("--backend", default="numpy", callback=backend, show_default=True, metavar="numpy|cupy",
              help="Where all of them compute: on the host, or on a GPU.")
@click.option("--precision", type=click.Choice(PRECISIONS), default=PRECISIONS[0], show_default=True,
              help="Of everybody's products, on a GPU.")
@click.option("--sizes", default=",".join(SIZES), callback=some_of(SIZES), show_default=True, metavar="A,B,…",
              help="Of the batches, on a GPU.")
@click.option("--json", "json_file", type=FILE, help="Where the results go, with machine, versions and spread.")
@click.option("--picture", type=FILE, help="Where the picture goes.")
@click.option("--page", type=FILE, help="A page in Markdown with a place for the table.")
@click.option("--again", type=FILE, help="Show what --json wrote, instead of measuring.")
@click.option("--quick", is_flag=True, help="A few steps of each: does everything run and agree?")
@click.option("--profile", is_flag=True, help="Of our replay alone: where a shard's time goes, call by call.")
def main(
    names: tuple[str, ...], contenders: list[str], steps: int, rounds: int, threads: int, backend: str, precision: str,
    sizes: list[str], json_file: Path | None, picture: Path | None, page: Path | None, again: Path | None, quick: bool,
    profile: bool,
) -> None:  # fmt: skip
    """Time scratchgen beside PyTorch, JAX and autograd: the same networks, weights and data, taking turns.

    \b
    WORKLOADs   vae_mlp realnvp gpt_char ddpm_unet_28 ddpm_unet_8 conv_autoencoder wgan_gp_critic small_ops
                ddim_sampling pixelcnn vqvae glow; all of them by default
    """
    if profile:
        if backend != "numpy":
            raise click.UsageError("--profile is of the host: a graph of kernels has no calls to time")
        return profiles(names or workloads.NAMES, steps, threads)
    if again is not None:
        about, rows = report.load(again)
    else:
        plan = Plan(threads=threads, **QUICK) if quick else Plan(steps, rounds, threads=threads)
        place = Place(backend, precision if backend != "numpy" else PRECISIONS[0])
        device = found_there(place, plan)
        rows = everything(names or workloads.NAMES, contenders, plan, place, sizes if place.on_device else ["small"])
        about = report.facts(plan, environment()[1], place, device)
    report.show(Console(), about, rows)
    if json_file is not None:
        report.save(json_file, about, rows)
    if picture is not None:
        from benchmarks.picture import draw

        draw(picture, about, rows)
    if page is not None:
        text = report.markdown(about, rows)
        if picture is not None and "device" in about:
            text += f"\n\n![{CAPTION}]({os.path.relpath(picture, page.parent)})"
        report.insert(page, text)


def profiles(names: Iterable[str], steps: int, threads: int) -> None:
    """A table for each workload."""
    from benchmarks.profile import measured, show

    for name in names:
        try:
            show(Console(), name, measured(name, steps, threads))
        except Failed as error:
            click.echo(f"benchmarks: {name}: {error}", err=True)
            sys.exit(1)


CAPTION = "The time of a step of each contender ÷ that of scratchgen replayed, for each workload and size."


def found_there(place: Place, plan: Plan) -> dict[str, Any] | None:
    """What the device is and reaches; None on the host.  Where there is none, the end: one line, exit code 2."""
    if not place.on_device:
        return None
    try:
        get(place.backend)
        return ceilings(place, plan)
    except (BackendError, Failed) as error:
        click.echo(f"benchmarks: {error}", err=True)
        sys.exit(2)


def everything(
    names: tuple[str, ...], contenders: list[str], plan: Plan, place: Place, sizes: list[str]
) -> list[Row]:
    """The rows, one after the other; after Ctrl-C, those that are done."""
    console, rows = Console(stderr=True), []
    try:
        for name, size in product(names, sizes):
            if size != sizes[0] and not can_grow(name):
                continue
            what = f"{name} {size}" if place.on_device else name
            with console.status(what) as status:
                say = lambda text: status.update(f"{what}: {text}")  # noqa: B023, E731
                rows.append(measure(name, contenders, plan, say, place, size))
            console.print(f"{what}: done", highlight=False)
    except KeyboardInterrupt:
        console.print("interrupted: what follows is what was done before", highlight=False)
        if not rows:
            sys.exit(130)
    return rows


def can_grow(name: str) -> bool:
    """Whether the workload's batches can be larger."""
    workload = workloads.load(name)
    return grown(workload, 2) is not workload


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
