"""Pictures that several systems share: grids of images, densities of the plane, films of a chain, curves of a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.data import to_images
from scratchgen.train.atomic import write_atomically


def figure(width: float, height: float) -> Any:
    """A matplotlib figure of its own, outside of pyplot's global list."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=160)


def save(fig: Any, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    import io

    file = io.BytesIO()
    fig.savefig(file, format="png")
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, file.getvalue())


def tiles(images: np.ndarray, columns: int, gap: int = 1, shade: float = 1.0) -> np.ndarray:
    """Images (N, H, W, C) in [−1, 1] as one picture in [0, 1], row by row, with lines between, white or of a shade."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), shade, np.float32)
    for i, image in enumerate(to_images(images)):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return sheet


def enlarge(sheet: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel as a square of factor × factor, as bytes."""
    return np.repeat(np.repeat(np.uint8(np.round(np.clip(sheet, 0, 1) * 255)), factor, 0), factor, 1)


def show(axes: Any, sheet: np.ndarray, title: str = "") -> None:
    """A sheet of tiles on axes without ticks."""
    axes.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=1,
                interpolation="nearest")  # fmt: skip
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="left", fontsize=10)


def beside_real(path: Path, drawn: np.ndarray, real: np.ndarray, title: str, columns: int = 10,
                shade: float = 1.0) -> None:
    """The first columns² images drawn, and as many real ones, evenly chosen, side by side.  shade: as for `tiles`."""
    n = columns * columns
    fig = figure(8.0, 4.2)
    left, right = fig.subplots(1, 2)
    show(left, tiles(drawn[:n], columns, shade=shade), title)
    show(right, tiles(real[:: max(1, len(real) // n)][:n], columns, shade=shade), "real, held out")
    save(fig, path)


LIMIT = 4.0  # the toys of the plane lie in [−4, 4]²


def points(axes: Any, x: np.ndarray, title: str = "", limit: float = LIMIT) -> None:
    """Points (N, 2) of the plane."""
    axes.scatter(x[:, 0], x[:, 1], s=3, alpha=0.5, linewidths=0, color="black")
    plane(axes, title, limit)


def density(axes: Any, log_p: Callable[[np.ndarray], np.ndarray], title: str = "", limit: float = LIMIT) -> None:
    """p over the plane, the darker the denser.  log_p: points (N, 2) ↦ (N,), up to a constant."""
    values = np.asarray(log_p(grid(150, limit))).reshape(150, 150)
    axes.imshow(np.exp(values - np.nanmax(values)), extent=(-limit, limit, -limit, limit), origin="lower", cmap="Blues")
    plane(axes, title, limit)


def arrows(axes: Any, score: Callable[[np.ndarray], np.ndarray], title: str = "", limit: float = LIMIT) -> None:
    """∇ log p over the plane, the long ones shortened.  score: points (N, 2) ↦ (N, 2)."""
    where = grid(25, limit)
    s = np.asarray(score(where))
    length = np.linalg.norm(s, axis=1, keepdims=True)
    s = s / np.maximum(length, 1e-12) * np.tanh(length / max(float(np.median(length)), 1e-12))
    axes.quiver(*where.T, *s.T, angles="xy", scale=30, width=0.003, color="tab:red")
    plane(axes, title, limit)


def grid(n: int, limit: float = LIMIT) -> np.ndarray:
    """n² points of the square [−limit, limit]², row by row from below: (n², 2) float32."""
    line = np.linspace(-limit, limit, n, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def plane(axes: Any, title: str, limit: float) -> None:
    """Axes of a square of the plane, without ticks."""
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, loc="left", fontsize=10)


def ways(path: Path, images: np.ndarray, title: str = "") -> None:
    """Ways from one image to another, a row each.  images: (rows, stops, H, W, C)."""
    rows, stops = images.shape[:2]
    fig = figure(8.0, 8.0 * rows / stops + (0.3 if title else 0.1))
    show(fig.add_subplot(), tiles(images.reshape(-1, *images.shape[2:]), stops), title)
    save(fig, path)


def film(path: Path, images: np.ndarray, columns: int = 5, milliseconds: int = 70, hold: int = 2500) -> None:
    """Images (frames, N, H, W, C) as an animated GIF that pauses on its last frame."""
    import io

    from PIL import Image

    factor = max(1, 560 // (images.shape[2] * columns + columns - 1))
    frames = [enlarge(tiles(each, columns), factor) for each in images]
    pictures = [Image.fromarray(f.squeeze(-1) if f.shape[-1] == 1 else f) for f in frames]
    times = [milliseconds] * (len(frames) - 1) + [hold]
    file = io.BytesIO()
    pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, file.getvalue())


def curves(path: Path, log: dict[str, np.ndarray], ylabel: str, scale: str = "log") -> None:
    """The columns of a log against its steps, each with its running mean.  scale: "linear" where they fall below 0."""
    fig = figure(7.2, 3.2)
    axes = fig.add_subplot()
    steps = log["step"]
    for name, values in log.items():
        if name == "step":
            continue
        curve(axes, steps, values, name)
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.set_yscale(scale)
    axes.grid(alpha=0.25)
    if len(log) > 2:
        axes.legend(frameon=False)
    save(fig, path)


def curve(axes: Any, steps: np.ndarray, values: np.ndarray, label: str) -> None:
    """One column of a log against its steps, thin, and its running mean, thick."""
    (line,) = axes.plot(steps, values, lw=0.8, alpha=0.35)
    window = max(1, len(steps) // 25)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    axes.plot(steps[window - 1 :], smooth, color=line.get_color(), lw=1.8, label=label)
