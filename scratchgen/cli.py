"""The command line: list, train, sample, evaluate, report, compare, verify, parity, info.

Exit codes: 0 done; 1 `verify` or `parity` found something that does not hold; 2 a request that cannot be served, said
in one line; 3 training diverged; 130 and 143 stopped by SIGINT or SIGTERM, after saving.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from math import gcd
from pathlib import Path
from typing import Any

import click

from scratchgen import data
from scratchgen.backend import BACKENDS, BackendError, active, use
from scratchgen.data import DataError
from scratchgen.precision import PRECISIONS
from scratchgen.random import MODES
from scratchgen.version import VERSION

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; whatever the user can cause ends in one line on standard error."""
    logging.basicConfig(format="scratchgen: %(message)s", level=logging.WARNING)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line.  Returns the exit code."""
    from scratchgen.recipes import RecipeError
    from scratchgen.train import CheckpointError, DivergedError, Interrupted, RunError, machine
    from scratchgen.verify.ledger import LedgerError
    from scratchgen.verify.session import Stopped, VerifyError

    machine.prepare()
    try:
        return commands.main(arguments, prog_name="scratchgen", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as help_:
        click.echo(help_.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(error.format_message())
    except (BackendError, DataError, RunError, CheckpointError, RecipeError, VerifyError, LedgerError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except DivergedError as error:
        return _fail(str(error), error.exit_code)
    except Interrupted as stop:
        click.echo(f"scratchgen: stopped after step {stop.step}, saved; --resume goes on from there", err=True)
        return stop.code
    except Stopped as stopped:
        return _fail(str(stopped), stopped.code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)


def _fail(message: str, code: int = 2) -> int:
    click.echo("scratchgen: " + " ".join(message.split()), err=True)
    return code


class Suggesting(click.Group):
    """A group that suggests the nearest command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        import difflib

        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(self.commands)}"
            raise click.UsageError(f"no command is called {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


def backend_option(command: Callable) -> Callable:
    return click.option(
        "--backend", type=click.Choice(BACKENDS), default=None,
        help="Where arrays live: numpy (host), cupy (GPU), auto (cupy where it works).  [default: numpy]",
    )(command)  # fmt: skip


@click.group(cls=Suggesting, context_settings=CONTEXT)
@click.version_option(VERSION, prog_name="scratchgen")
def commands() -> None:
    """The mathematics of generative models, written out, checked, and fast enough to use.

    \b
    scratchgen list                      what there is
    scratchgen train ddpm                train on handwritten digits; leaves runs/ddpm/index.html
    scratchgen sample runs/ddpm -n 64    draw more
    scratchgen evaluate runs/ddpm        judge it again
    scratchgen report runs/ddpm          draw its page again
    scratchgen compare runs/*            quality, diversity and speed in one chart
    scratchgen verify                    run the tests of every equation; leaves runs/verify/index.html
    scratchgen parity                    whether the GPU gives NumPy's numbers; leaves runs/parity/index.html
    scratchgen info                      the machine, its libraries, and what holds them back

    scratchgen COMMAND --help says more.
    """


@commands.command("list")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Where the last figures are looked for.")
@click.option("--ids", is_flag=True, help="Only the names, one a line.")
@click.option("--table", "as_table", is_flag=True, help="Only the figures, of all that have been judged, in Markdown.")
def list_(runs: Path, ids: bool, as_table: bool) -> None:
    """What there is to train: each system with its paper, lectures, data, equations, and its last figure of quality.

    The file is the place to read: equations on top, code below.  `scratchgen verify ID` checks an equation.
    """
    from scratchgen.recipes import RECIPES
    from scratchgen.recipes.catalogue import entry, table

    if ids or as_table:
        return click.echo(table(RECIPES.values(), runs) if as_table else "\n".join(RECIPES))
    for recipe in RECIPES.values():
        click.echo(click.style(f"{recipe.id:24}", bold=True) + recipe.title)
        for what, text in entry(recipe, runs / recipe.id):
            click.echo(f"{'':24}{what:11}{text}")
    click.echo("\nscratchgen train ID trains one of them.")


@commands.command()
@click.argument("id", metavar="ID")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to make.  [default: runs/ID]")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: the recipe's]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples in a minibatch.  [default: the recipe's]")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Learning rate.  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), help="Of weights, noise and order.  [default: 0]")
@click.option("--precision", type=click.Choice(PRECISIONS),
              help="Of products: bf16 and tf32 are faster on a GPU, emulated elsewhere.  [default: the recipe's]")
@click.option("--noise", type=click.Choice(MODES), help="Drawn on the host, or by counter where the arrays live.  "
              "[default: counter on cupy, host elsewhere]")
@click.option("--data", "dataset", help="Data set: digits, or mnist or cifar10 with --folder.  [default: the recipe's]")
@click.option("--folder", type=click.Path(), help="Where the data set's files are.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, where it was last saved.")
@click.option("--no-report", is_flag=True, help="Only train: no judging, no pictures.")
@backend_option
def train(
    id: str, out: Path | None, steps: int | None, batch_size: int | None, lr: float | None, seed: int | None,
    precision: str | None, noise: str | None, dataset: str | None, folder: str | None, resume: bool, no_report: bool,
    backend: str | None,
) -> None:  # fmt: skip
    """Train the system ID, judge it and draw its page.

    Everything goes into one run folder: config.json, metrics.csv, the checkpoint, pictures/, index.html.
    Ctrl-C finishes the step and saves; --resume goes on from the last checkpoint as if nothing had happened.
    The same seed gives the same run, bit for bit.  With a larger --steps, --resume trains on; the learning
    rate's decay is then stretched over all of them.
    """
    from scratchgen.recipes import find, present
    from scratchgen.train import RunConfig, RunFolder, as_json
    from scratchgen.train.config import settled

    recipe = find(id)
    out = out or Path("runs") / recipe.id
    wanted: dict[str, Any] = {
        "steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "precision": precision, "noise": noise,
    }  # fmt: skip
    given = {k: v for k, v in wanted.items() if v is not None}
    if resume:
        run = RunFolder.open(out)
        _check_resume(run, recipe.id, given, dataset, folder)
        xp = _choose(backend, run)
        examples = data.load(run.config.dataset, run.config.data_folder)
        if steps is not None:
            _extend(run, steps)
    else:
        xp = use(backend) if backend else active()
        examples = data.load(dataset or recipe.dataset, folder)
        settings = settled(_settings(recipe.train, given, len(examples.train)), xp.own_noise)
        where = str(Path(folder).resolve()) if folder else None
        model = as_json(recipe.configure(examples))
        run = RunFolder.create(out, RunConfig(recipe.id, model, settings, dataset or recipe.dataset, where, xp.name))
    system = recipe.restore(run)
    noise = run.config.train.noise or xp.own_noise
    click.echo(f"{recipe.title}: {system.size():,} parameters, {len(examples.train):,} examples, {xp.name}, "
               f"noise by {noise}")
    recipe.fit(system, examples, run)
    if not no_report:
        present.judge(recipe.load(run), thorough=False)


def _settings(train: Any, given: dict[str, Any], examples: int) -> Any:
    """The recipe's training settings with what the user gave.  Raises UsageError for what makes no sense."""
    if given.get("batch_size", 1) > examples:
        raise click.UsageError(f"--batch-size {given['batch_size']}: there are {examples} examples")
    size = given.get("batch_size", min(train.batch_size, examples))
    settings = dataclasses.replace(train, **{**given, "batch_size": size, "shards": gcd(train.shards, size)})
    return dataclasses.replace(settings, log_every=min(settings.log_every, settings.steps))


def _choose(backend: str | None, run: Any) -> Any:
    """The backend asked for, or the one of the run.  Says so where a run changes its backend."""
    if backend and backend != run.config.backend:
        click.echo(f"scratchgen: {run.path} was made on {run.config.backend}; numbers will differ a little", err=True)
    return use(backend or run.config.backend)


def _extend(run: Any, steps: int) -> None:
    """Change the number of steps of a run, if it has not gone further already."""
    from scratchgen.train import checkpoint

    with run.lock():
        done = checkpoint.load(run.checkpoint)[1]["step"] if run.checkpoint.exists() else 0
        if steps < done:
            raise click.UsageError(f"--steps {steps}: the run is at step {done} already")
        if steps != run.config.train.steps:
            settings = dataclasses.replace(run.config.train, steps=steps)
            run.write_config(dataclasses.replace(run.config, train=settings))


def _check_resume(run: Any, id: str, given: dict[str, Any], dataset: str | None, folder: str | None) -> None:
    config = run.config
    if config.system != id:
        raise click.UsageError(f"--resume: {run.path} is a run of {config.system}, not of {id}")
    for key, value in given.items():
        if key != "steps" and getattr(config.train, key) != value:
            option = "--" + key.replace("_", "-")
            raise click.UsageError(f"--resume: the run has {option} {getattr(config.train, key)}, not {value}")
    if dataset is not None and dataset != config.dataset:
        raise click.UsageError(f"--resume: the run's data are {config.dataset}, not {dataset}")
    if folder is not None and str(Path(folder).resolve()) != config.data_folder:
        theirs = config.data_folder or "the package"
        raise click.UsageError(f"--resume: the run's data come from {theirs}, not {folder}")


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", "n", type=click.IntRange(min=1), default=64, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Of the noise.  [default: the run's]")
@click.option("--steps", type=click.IntRange(min=1), help="Of the sampler; ddpm: with --steps or --eta it is DDIM.")
@click.option("--eta", help="DDIM's η: 0 … 1, or sigma_hat.")
@click.option("--solver", help="How a differential equation is solved; `list` says which there are.")
@click.option("--temperature", type=click.FloatRange(min=0), help="Below 1: more of what is likely.")
@click.option("--top-k", type=click.IntRange(min=1), help="Draw each symbol from the k likeliest.")
@click.option("--prompt", help="The text to go on with.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="PNG, .npy or .txt file.  [default: RUN/pictures/drawn.png, or .txt]")
@backend_option
def sample(
    run: Path, n: int, seed: int | None, out: Path | None, backend: str | None, **options: Any
) -> None:
    """Draw from the trained system in the folder RUN.

    A .png shows images in a grid, or points of the plane; a .npy holds the numbers: images (n, H, W, C) in [-1, 1],
    points (n, 2).  A .txt holds text.  Not every system has every option: it then says which it has.
    """
    from scratchgen.recipes import drawings

    trained = _load(run, backend)
    out = out or trained.run.pictures / f"drawn{trained.recipe.suffixes[0]}"
    drawings.check(out, trained)
    options["eta"] = _eta(options["eta"])
    given = {k: v for k, v in options.items() if v is not None}
    drawings.write(out, trained.recipe.drawn(trained, n, trained.rng(DRAWN, seed), given))
    click.echo(out)


def _eta(text: str | None) -> float | str | None:
    if text is None or text == "sigma_hat":
        return text
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--eta {text}: neither a number nor sigma_hat") from None


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--thorough", is_flag=True, help="Also what takes minutes (ddpm: Fréchet over steps and η).")
@backend_option
def evaluate(run: Path, thorough: bool, backend: str | None) -> None:
    """Judge the trained system in the folder RUN, beside floor and ceiling, and draw its page again."""
    from scratchgen.recipes import present

    present.judge(_load(run, backend), thorough)


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Draw the pictures and the page of the folder RUN again, from what `evaluate` found."""
    from scratchgen.recipes import present

    present.report(_load(run, None))


@commands.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("runs/compare.png"),
              show_default=True, help="PNG file for the chart; the numbers go beside it, as .json.")
def compare(runs: tuple[Path, ...], out: Path) -> None:
    """Quality, diversity and speed of the trained systems in the folders RUNS, in one chart.

    Every sampler draws as many images as are held out; they are timed here and judged as `evaluate` judges.  A folder
    that has no images to show is left out, with a line that says why.
    """
    import json

    from scratchgen.recipes import RecipeError, present
    from scratchgen.recipes import compare as chart
    from scratchgen.train import CheckpointError, RunError
    from scratchgen.train.atomic import write_atomically

    if out.suffix != ".png":
        raise click.UsageError(f"--out {out}: the name must end in .png")
    rows: list[dict[str, Any]] = []
    for run in runs:
        try:
            rows += chart.measure(_load(run, None))
        except (RunError, CheckpointError, RecipeError) as error:
            if len(runs) == 1:
                raise
            click.echo(f"left out: {error}", err=True)
    if not rows:
        raise click.UsageError("none of these folders is a run of a system that draws images")
    out.parent.mkdir(parents=True, exist_ok=True)
    chart.draw(out, rows)
    write_atomically(out.with_suffix(".json"), json.dumps(rows, indent=1, ensure_ascii=False).encode())
    present.show(chart.table(rows))
    click.echo(f"see {out}")


MUTANTS = {"some": 3, "all": None, "none": 0}
"""How many wrong formulas of each equation `verify` puts into the source."""


@commands.command()
@click.argument("pattern", default="*")
@click.option("--examples", type=click.IntRange(min=1), default=30, show_default=True,
              help="Inputs to draw per property.")
@click.option("--report", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/verify"),
              show_default=True, help="Where verify.json and index.html go.")
@click.option("--mutants", type=click.Choice(tuple(MUTANTS)), default="some", show_default=True,
              help="Wrong formulas to kill: three of each equation, all, or none.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at a time.  [default: one per core]")
@backend_option
def verify(
    pattern: str, examples: int, folder: Path, mutants: str, jobs: int | None, backend: str | None
) -> None:
    """Check every equation against its oracle, prove the misprints, kill the wrong formulas.

    PATTERN chooses: gaussian, diffusion.*, ddim.step.  Without it, all.

    \b
    Equations    formula, oracle, inputs tried, the largest error beside what it may be
    Misprints    the smallest input for which the printed form fails; the corrected form holds
    Mutants      wrong formulas, each put into a copy of the source: the equation's tests must fail

    Exit code 1 if anything does not hold.  `--examples 10000 --mutants all` is a night's work.
    """
    from scratchgen.verify.command import verify as check

    if not check(pattern, examples, backend or active().name, folder, MUTANTS[mutants], jobs):
        raise click.exceptions.Exit(1)


@commands.command()
@click.argument("id", metavar="[ID]", required=False)
@click.option("--backend", type=click.Choice(("cupy", "strict")), default="cupy", show_default=True,
              help="What to compare NumPy with.")
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Of float32, side by side.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True,
              help="Examples in a minibatch, at most.")
@click.option("--report", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/parity"),
              show_default=True, help="Where parity.json, the picture and index.html go.")
def parity(id: str | None, backend: str, steps: int, batch_size: int, folder: Path) -> None:
    """Whether another backend gives NumPy's numbers, for the system ID or for all of them.

    \b
    The same weights, minibatches and noise (by counter) on both:
    float64    every term of the loss and every gradient, to 1e-10 relative
    float32    the same, without TF32, to the system's tolerance
    way        the weights over 100 steps of float32, beside those of NumPy summing in another order
    fit        what systems without training steps are fitted to, to 1e-10 relative

    Exit code 1 if anything does not hold.
    """
    from scratchgen.backend import get
    from scratchgen.recipes import RECIPES, find, parity_page

    get(backend)
    recipes = [find(id)] if id else list(RECIPES.values())
    if not parity_page.check(recipes, backend, steps, batch_size, folder):
        raise click.exceptions.Exit(1)


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def info(as_json: bool) -> None:
    """The processor, BLAS, backends and versions; what to say when something is slow or wrong.

    One more line says where the environment holds OpenBLAS to slower kernels than the processor's.
    """
    import json

    from scratchgen.info import facts, lines

    found = facts()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for label, text in lines(found):
        click.echo(click.style(f"{label:12}", bold=True) + text)


DRAWN = 100  # the purpose of random numbers for `sample`


def _load(path: Path, backend: str | None) -> Any:
    from scratchgen.recipes import find
    from scratchgen.train import RunFolder

    run = RunFolder.open(path)
    use(backend or run.config.backend)
    return find(run.config.system).load(run)


if __name__ == "__main__":
    main()
