"""The book's figures: attention maps with labeled tokens, heat maps, curves and bars, in one quiet style.

Each function draws on an ``ax`` that it is given or on a new figure, returns it, and shows nothing: a notebook cell
ends with ``plt.show()``. Data may be tensors (any device or dtype), arrays or lists. Wrong shapes raise ``ValueError``.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from tutorlib.arguments import check_whole

__all__ = ["attention_map", "attention_maps", "bars", "curves", "heat_map", "use_style"]

# Told apart with every kind of color vision and in gray: hues after Okabe and Ito, darkened to at least 3:1 on white.
COLORS = ("#0072b2", "#d55e00", "#00805e", "#aa4499", "#a87900", "#404040")
INK = "#262626"

# 5.6 inches of 12-point text: at 390 px, the width of a telephone, the letters are still 10 px high.
STYLE = {
    "figure.figsize": (5.6, 3.4),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",  # opaque: under a dark theme the figure stays a white card with dark ink
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "font.size": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "svg.fonttype": "path",  # letters as outlines: the same on a machine without the font
    "svg.hashsalt": "tutorlib",  # with no date, the same figure is the same bytes
}

LARGEST_WITH_VALUES = 8  # rows or columns; beyond it the numbers in the cells no longer fit
LETTER = 0.095  # inches, the width of a tick label's letter
RASTERIZED_FROM = 2000  # points; beyond it a line is smaller as pixels than as a path


def use_style() -> None:
    """Set the book's style; in a notebook, figures become SVG that is the same, byte for byte, on every run."""
    plt.rcParams.update(STYLE)
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # a script, without Jupyter installed
        return
    if get_ipython() is not None:
        plt.close(plt.figure())  # settles the backend, whose arrival would set the formats back to PNG
        set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})


def attention_map(weights: Any, queries: Sequence[str], keys: Sequence[str], ax: Axes | None = None,
                  title: str | None = None, *, show_values: bool | None = None, largest: float = 1.0) -> Axes:
    """Draw attention weights (T, S): a row for each query, a column for each key, darker where there is more weight.

    Args:
        weights: (T, S).
        queries: T labels for the rows.
        keys: S labels for the columns.
        show_values: write the weight into each cell; by default for maps of up to 8 by 8.
        largest: the weight that gets the darkest color.

    Raises ``ValueError`` where the labels do not fit the weights, and for a `largest` that is not positive.
    """
    weights = _matrix(weights, "weights", "(T, S)")
    _check_largest(largest)
    _check_labels(queries, "queries", weights.shape[0])
    _check_labels(keys, "keys", weights.shape[1])
    ax = ax or _matrix_axes(weights.shape)
    _draw_cells(ax, weights, plt.get_cmap("Blues"), 0.0, largest, show_values)
    _label_ticks(ax, queries, keys)
    ax.set(xlabel="key", ylabel="query", title=title)
    return ax


def attention_maps(weights: Any, queries: Sequence[str], keys: Sequence[str], titles: Sequence[str] | None = None, *,
                   columns: int | None = None, largest: float = 1.0) -> Figure:
    """Draw the attention weights of H heads (H, T, S), one map a head, all on the same color scale.

    ``titles`` names the maps ("head 1", ... by default); ``columns`` is the number of maps in a row. Raises ``ValueError`` as
    `attention_map` does.
    """
    weights = _array(weights, "weights")
    if weights.ndim != 3 or 0 in weights.shape:
        raise ValueError(f"weights must have the shape (H, T, S), got {weights.shape}")
    heads, T, S = weights.shape
    titles = titles or [f"head {h}" for h in range(1, heads + 1)]
    for labels, name, size in ((titles, "titles", heads), (queries, "queries", T), (keys, "keys", S)):
        _check_labels(labels, name, size)
    _check_largest(largest)
    if columns is not None:
        check_whole("columns", columns)
    columns = min(heads, columns or (4 if S <= 5 else 2))
    rows = -(-heads // columns)
    width = STYLE["figure.figsize"][0]
    height = 0.6 + rows * (0.35 + (width - 0.8) / columns * T / S)
    size = width, min(height, 9.0)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for h, ax in enumerate(axes.flat):
        ax.set_visible(h < heads)
        if h < heads:
            attention_map(weights[h], queries, keys, ax, titles[h], show_values=False, largest=largest)
            ax.label_outer()
    return figure


def heat_map(matrix: Any, xlabel: str, ylabel: str, *, ax: Axes | None = None, title: str | None = None,
             rows: Sequence[str] | None = None, columns: Sequence[str] | None = None,
             show_values: bool | None = None, colorbar: bool = True) -> Axes:
    """Draw a matrix as colors: from white to blue, or from blue over white (zero) to red where values are negative.

    ``rows`` and ``columns`` label the cells; without them the axes are numbered from 0. A non-finite entry is gray.
    """
    matrix = _matrix(matrix, "matrix", "(rows, columns)")
    for labels, name, size in ((rows, "rows", matrix.shape[0]), (columns, "columns", matrix.shape[1])):
        if labels is not None:
            _check_labels(labels, name, size)
    finite = matrix[np.isfinite(matrix)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    bound = max(abs(low), abs(high)) or 1.0
    colors, low = (plt.get_cmap("RdBu_r"), -bound) if low < 0 else (plt.get_cmap("Blues"), 0.0)
    labeled = rows is not None or columns is not None
    ax = ax or (_matrix_axes(matrix.shape) if labeled else plt.subplots()[1])
    image = _draw_cells(ax, matrix, colors, low, bound, show_values if show_values is not None else labeled and None)
    _label_ticks(ax, rows, columns)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if colorbar:
        ax.figure.colorbar(image, ax=ax).outline.set_visible(False)
    return ax


def curves(series: Mapping[str, Any], xlabel: str, ylabel: str, *, ax: Axes | None = None, title: str | None = None,
           bands: Mapping[str, tuple[Any, Any]] | None = None, log: str = "", marker: str | None = None) -> Axes:
    """Draw named curves, each ``(x, y)`` or ``y`` alone, which is then numbered from 0.

    Args:
        series: name -> (x, y) or y; the names make the legend.
        bands: name -> (lower, upper), shaded in the curve's color: a spread over seeds, say.
        log: the axes that are logarithmic: "", "x", "y" or "xy".
        marker: a matplotlib marker for the points, as "o".

    Raises ``ValueError`` for lengths that differ, a curve of no points, a band without its curve, or a value <= 0 on a
    logarithmic axis.
    """
    if not series:
        raise ValueError("series must hold at least one curve, got none")
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log must be "", "x", "y" or "xy", got {log!r}')
    if unknown := sorted(set(bands or {}) - set(series)):
        raise ValueError(f"bands must belong to curves of series, but {unknown[0]!r} has none")
    points = {name: _points(name, given, log) for name, given in series.items()}
    edges = {name: [_vector(edge, f"bands[{name!r}]", len(points[name][0])) for edge in pair]
             for name, pair in (bands or {}).items()}
    ax = ax or plt.subplots()[1]
    for name, (x, y) in points.items():
        line, = ax.plot(x, y, label=name, marker=marker, rasterized=len(x) > RASTERIZED_FROM)
        if name in edges:
            ax.fill_between(x, *edges[name], color=line.get_color(), alpha=0.2, linewidth=0)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(series) > 1:
        ax.legend()
    return ax


def bars(values: Mapping[str, Any], ylabel: str, *, ax: Axes | None = None, title: str | None = None,
         digits: int = 2) -> Axes:
    """Draw a bar for each name, its value above it: ``value``, or ``(mean, spread)`` with a whisker of the spread."""
    if not values:
        raise ValueError("values must hold at least one bar, got none")
    pairs = {name: _mean_and_spread(name, value) for name, value in values.items()}
    ax = ax or plt.subplots()[1]
    for position, (mean, spread) in enumerate(pairs.values()):
        bar = ax.bar(position, mean, width=0.65, yerr=spread, capsize=4, color=COLORS[0], ecolor=INK)
        ax.bar_label(bar, fmt=f"%.{digits}f", padding=3)
    names = list(pairs)
    _label_ticks(ax, None, names)
    ax.grid(False, axis="x")
    ax.margins(y=0.12)
    ax.set(ylabel=ylabel, title=title)
    return ax


def _draw_cells(ax: Axes, matrix: np.ndarray, colors: Colormap, low: float, high: float, show_values: bool | None):
    colors = colors.with_extremes(bad="#bdbdbd")
    # "none" embeds one pixel a cell, which the browser enlarges crisply; anything else resamples and blurs.
    image = ax.imshow(np.ma.masked_invalid(matrix), cmap=colors, vmin=low, vmax=high, interpolation="none",
                      aspect="auto", rasterized=True)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if show_values if show_values is not None else max(matrix.shape) <= LARGEST_WITH_VALUES:
        for (row, column), value in np.ndenumerate(matrix):
            ax.text(column, row, _short(value), ha="center", va="center", color=_ink_on(image.to_rgba(value)),
                    fontsize=11 if matrix.shape[1] <= 6 else 9)
    return image


def _short(value: float) -> str:
    """Two decimals; a weight that is exactly zero, as a masked one is, is written 0."""
    return "0" if value == 0 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _ink_on(rgba: Sequence[float]) -> str:
    """White or dark ink, whichever stands out from the color (its luma, ITU-R BT.601)."""
    return "white" if 0.299 * rgba[0] + 0.587 * rgba[1] + 0.114 * rgba[2] < 0.55 else INK


def _label_ticks(ax: Axes, rows: Sequence[str] | None, columns: Sequence[str] | None) -> None:
    if rows is not None:
        ax.set_yticks(range(len(rows)), list(map(str, rows)), parse_math=False)  # a "$" token is a dollar sign
    if columns is not None:
        names = list(map(str, columns))
        room = ax.get_position().width * ax.figure.get_figwidth() / len(names)  # inches for one label
        crowded = LETTER * max(map(len, names)) > room
        slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        ax.set_xticks(range(len(names)), names, parse_math=False, **slant)


def _matrix_axes(shape: tuple[int, ...]) -> Axes:
    """Axes with room for a cell's value, but no wider than the page and no taller than a screen."""
    size = min(5.6, 1.6 + 0.62 * shape[1]), min(6.0, 1.2 + 0.46 * shape[0])
    return plt.subplots(figsize=size)[1]


def _array(data: Any, name: str) -> np.ndarray:
    """Anything numeric as float64 on the CPU."""
    try:
        if isinstance(data, torch.Tensor):
            return data.detach().cpu().double().numpy()
        return np.asarray(data, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers of one shape, got {type(data).__name__}") from error


def _matrix(data: Any, name: str, shape: str) -> np.ndarray:
    matrix = _array(data, name)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{name} must have the shape {shape}, got {matrix.shape}")
    return matrix


def _vector(data: Any, name: str, length: int | None = None) -> np.ndarray:
    vector = _array(data, name)
    if vector.ndim != 1 or not len(vector) or length not in (None, len(vector)):
        raise ValueError(f"{name} must be a sequence{f' of {length}' if length else ''}, got the shape {vector.shape}")
    return vector


def _points(name: str, points: Any, log: str) -> tuple[np.ndarray, np.ndarray]:
    pair = isinstance(points, tuple) and len(points) == 2 and np.ndim(points[0]) == 1
    y = _vector(points[1] if pair else points, f"series[{name!r}]")
    x = _vector(points[0], f"series[{name!r}]", len(y)) if pair else np.arange(len(y))
    for axis, values in (("x", x), ("y", y)):
        if axis in log and not (values > 0).all():
            raise ValueError(f"series[{name!r}] must be positive on the logarithmic {axis} axis, got {values.min():g}")
    return x, y


def _mean_and_spread(name: str, value: Any) -> tuple[float, float | None]:
    numbers = _array(value, f"values[{name!r}]")
    if numbers.shape not in ((), (2,)):
        raise ValueError(f"values[{name!r}] must be a number or (mean, spread), got the shape {numbers.shape}")
    return (float(numbers), None) if numbers.ndim == 0 else (float(numbers[0]), float(numbers[1]))


def _check_largest(largest: float) -> None:
    if not 0 < largest < np.inf:
        raise ValueError(f"largest must be a positive number, got {largest}")


def _check_labels(labels: Sequence[str], name: str, length: int) -> None:
    if len(labels) != length:
        raise ValueError(f"{name} must have {length} labels, got {len(labels)}")
