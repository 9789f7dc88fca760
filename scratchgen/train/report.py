"""The run's page: `index.html` beside its pictures, readable without a server and without the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from scratchgen.train.atomic import write_atomically
from scratchgen.train.config import as_json
from scratchgen.train.run import RunFolder


class Picture(NamedTuple):
    """A file in the run's `pictures/`, and what a reader should see in it."""

    file: str
    title: str
    caption: str
    alt: str
    pixelated: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; `marked` rows are floors and ceilings, the yardsticks of the others."""

    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = field(default_factory=frozenset)


class Passage(NamedTuple):
    """Text that stands on the page as it is, line by line."""

    title: str
    caption: str
    text: str


@dataclass(frozen=True)
class Page:
    """All that `write_page` needs besides the run itself.  facts: the headline numbers, (what, value)."""

    title: str
    paper: str
    equations: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    passages: Sequence[Passage] = ()


def write_page(run: RunFolder, page: Page) -> None:
    """Write the run's `index.html`, atomically."""
    write_html(run.index, page, as_json(run.config))


def write_html(path: Path, page: Page, settings: dict[str, Any]) -> None:
    """Write a page to a file of a folder with `pictures/`, atomically."""
    source = resources.files("scratchgen.train").joinpath("report.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    html = template.render(page=page, settings=_flat(settings), name=path.parent.name)
    write_atomically(path, html.encode())


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    pairs: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", str(value)))
    return pairs
