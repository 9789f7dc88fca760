"""The pictures of a run of agglomerative clustering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.data import load, to_images
from scratchgen.models.classical.agglomerative import METHODS, cut, distances, merges
from scratchgen.recipes import pictures
from scratchgen.recipes.fitted import on_backend
from scratchgen.recipes.kmeans_pictures import coloured
from scratchgen.recipes.recipe import on_host
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

LEAVES = 30
MEMBERS = 16


def draw(trained: Trained, results: Results, x: np.ndarray, k: int) -> list[Picture]:
    """All of them, in the order of the page.  x: the clustered rows.  k: groups."""
    images = len(trained.dataset.shape) == 3
    first = [_dendrogram(trained, results, x, k)]
    first.append(_groups(trained, results, x) if images else _points(trained, results, x))
    return [*first, _linkages(trained), _heights(trained, results, k)]


def _dendrogram(trained: Trained, results: Results, x: np.ndarray, k: int) -> Picture:
    """The last merges of the tree, coloured below the cut into k groups."""
    tree, shape = results.arrays["tree"], trained.dataset.shape
    leaves = min(LEAVES, len(x))
    layout = Layout(tree, leaves, k)
    fig = pictures.figure(8.0, 4.6)
    grid = fig.add_gridspec(2, 1, height_ratios=[10.5, 1], hspace=0)
    axes, below = fig.add_subplot(grid[0]), fig.add_subplot(grid[1])
    for xs, ys, colour in layout.lines:
        axes.plot(xs, ys, color="0.35" if colour is None else f"C{colour % 10}", lw=1.4, solid_capstyle="round")
    axes.axhline((tree[-k, 2] + tree[-k + 1, 2]) / 2, color="k", lw=0.8, ls=":")
    axes.set(xlim=(-0.6, leaves - 0.4), xticks=[], ylabel="distance at the merge", ylim=(0, None))
    axes.set_title(f"{trained.system.config.method} linkage, the last {leaves - 1} of {len(tree):,} merges", loc="left",
                   fontsize=10)  # fmt: skip
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    below.set(xlim=(-0.6, leaves - 0.4), ylim=(-0.9, 0.5))
    below.set_axis_off()
    for place, members in enumerate(layout.members):
        if len(shape) == 3:
            mean = to_images(x[members].mean(axis=0).reshape(shape))
            below.imshow(mean.squeeze(), extent=(place - 0.46, place + 0.46, -0.46, 0.46), cmap="gray", vmin=0, vmax=1,
                         aspect="auto", interpolation="nearest")  # fmt: skip
        below.text(place, -0.75, str(len(members)), ha="center", fontsize=6)
    pictures.save(fig, trained.run.pictures / "dendrogram.png")
    thumbs = "Below each branch the mean of its examples and " if len(shape) == 3 else "Below each branch "
    return Picture(
        "dendrogram.png", "Dendrogram", "Which groups became one, at which distance. " + thumbs + "how many they are. "
        f"Cut at the dotted line, the tree falls into {k} groups, coloured.",
        "A tree of merges, with digits at its leaves.",
    )  # fmt: skip


class Layout:
    """Where the last merges of a tree are drawn: lines (xs, ys, colour), and the members of each leaf in order."""

    def __init__(self, tree: np.ndarray, leaves: int, k: int) -> None:
        self.tree, self.n = tree, len(tree) + 1
        self.first = 2 * self.n - leaves  # groups below this number are not opened
        self.coloured = 2 * self.n - k  # nor are those below this one apart at the cut
        self.lines: list[tuple[list[float], list[float], int | None]] = []
        self.members: list[list[int]] = []
        self.colours = 0
        self._place(2 * self.n - 2, None)

    def _place(self, group: int, colour: int | None) -> tuple[float, float]:
        """Draw a group; its horizontal place and its height."""
        if colour is None and group < self.coloured:
            colour, self.colours = self.colours, self.colours + 1
        if group < self.first:
            self.members.append(self._leaves(group))
            return len(self.members) - 1.0, 0.0
        i, j, height, _ = self.tree[group - self.n]
        (a, low_a), (b, low_b) = (self._place(int(child), colour) for child in (i, j))
        self.lines.append(([a, a, b, b], [low_a, height, height, low_b], colour))
        return (a + b) / 2, float(height)

    def _leaves(self, group: int) -> list[int]:
        waiting, found = [group], []
        while waiting:
            g = waiting.pop()
            if g < self.n:
                found.append(g)
            else:
                waiting += [int(child) for child in self.tree[g - self.n, :2]]
        return found


def _groups(trained: Trained, results: Results, x: np.ndarray) -> Picture:
    """The mean of each group and some of its members."""
    groups, tiles = results.arrays["groups"], []
    order = np.argsort(-np.bincount(groups))
    for g in order:
        inside = np.flatnonzero(groups == g)
        some = inside[np.linspace(0, len(inside) - 1, MEMBERS).round().astype(int)]
        tiles += [x[inside].mean(axis=0), np.ones(x.shape[1]), *x[some]]
    fig = pictures.figure(7.6, 0.41 * len(order) + 0.3)
    sheet = pictures.tiles(np.reshape(tiles, (-1, *trained.dataset.shape)), MEMBERS + 2)
    pictures.show(fig.add_subplot(), sheet, "mean, and members of each group, the largest group first")
    pictures.save(fig, trained.run.pictures / "groups.png")
    return Picture(
        "groups.png", "The groups", "The tree cut into as many groups as there are classes: which a group has more of, "
        "it was not told.", "Rows of digits, each behind the mean of its group.",
    )  # fmt: skip


def _points(trained: Trained, results: Results, x: np.ndarray) -> Picture:
    fig = pictures.figure(4.4, 4.4)
    coloured(fig.add_subplot(), x[:, :2], results.arrays["groups"], f"{trained.system.config.method} linkage")
    pictures.save(fig, trained.run.pictures / "groups.png")
    return Picture("groups.png", "The groups", "The points, coloured by group.", "Coloured points of the plane.")


def _linkages(trained: Trained) -> Picture:
    """The four linkages on three clouds of the plane."""
    clouds = {name: load(name).train.astype(np.float64) for name in ("rings", "moons", "eight_gaussians")}
    clouds["rings"] = clouds["rings"][np.linalg.norm(clouds["rings"], axis=1) < 1.25]  # the two inner ones
    fig = pictures.figure(8.0, 5.6)
    panels = fig.subplots(len(clouds), len(METHODS), height_ratios=(1, 0.55, 1))
    for row, (k, cloud) in enumerate(zip((2, 2, 8), clouds.values(), strict=True)):
        x = cloud[:400]
        table = distances(on_backend(x))
        for axes, method in zip(panels[row], METHODS, strict=True):
            tree = on_backend(np.array(list(merges(table, method)), np.float64))
            coloured(axes, x, on_host(cut(tree, k)), "" if row else method, 4)
    pictures.save(fig, trained.run.pictures / "linkages.png")
    return Picture(
        "linkages.png", "Four ways of being near", "The same points, cut into as many groups as went into them. Single "
        "linkage follows a ring all the way round, but a few stray points make it join the moons; complete and Ward's "
        "linkage cut long shapes into compact pieces, and find the round ones.",
        "Twelve panels of points, coloured by group.",
    )  # fmt: skip


def _heights(trained: Trained, results: Results, k: int) -> Picture:
    heights = results.arrays["tree"][:, 2]
    last = min(40, len(heights))
    fig = pictures.figure(7.2, 3.0)
    axes: Any = fig.add_subplot()
    axes.plot(np.arange(last, 0, -1), heights[-last:], "o-", ms=3.5, lw=1.2)
    axes.axvline(k - 0.5, color="k", lw=0.8, ls=":", label=f"the cut into {k} groups")
    axes.invert_xaxis()
    axes.set(xlabel="groups left after the merge", ylabel="distance at the merge", ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "heights.png")
    return Picture(
        "heights.png", "How far apart the merged groups were", "The last merges, from many groups on the left to one "
        "on the right. A jump says that what was joined there had better stayed apart.",
        "A rising curve of distances.",
    )  # fmt: skip
