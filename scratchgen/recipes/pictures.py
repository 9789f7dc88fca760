"""Pictures that several systems share: grids of images, films of a chain, curves of a loss."""

from __future__ import annotations

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


def tiles(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images (N, H, W, C) in [−1, 1] as one picture in [0, 1], row by row, with white lines between."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.ones((rows * (h + gap) - gap, columns * (w + gap) - gap, c), np.float32)
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


def film(frames: list[np.ndarray], path: Path, milliseconds: int = 70, hold: int = 2500) -> None:
    """Sheets as an animated GIF that pauses on its last frame."""
    import io

    from PIL import Image

    pictures = [Image.fromarray(f.squeeze(-1) if f.shape[-1] == 1 else f) for f in frames]
    times = [milliseconds] * (len(frames) - 1) + [hold]
    file = io.BytesIO()
    pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, file.getvalue())


def curves(path: Path, log: dict[str, np.ndarray], ylabel: str) -> None:
    """The columns of a log against its steps, each with its running mean."""
    fig = figure(7.2, 3.2)
    axes = fig.add_subplot()
    steps = log["step"]
    for name, values in log.items():
        if name == "step":
            continue
        (line,) = axes.plot(steps, values, lw=0.8, alpha=0.35)
        window = max(1, len(steps) // 25)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color=line.get_color(), lw=1.8, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.set_yscale("log")
    axes.grid(alpha=0.25)
    if len(log) > 2:
        axes.legend(frameon=False)
    save(fig, path)
