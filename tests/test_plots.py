"""The book's figures: labels, values, refusals, and SVG that is the same bytes in every process."""
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from tutorlib.plots import COLORS, attention_map, attention_maps, bars, curves, heat_map, use_style

WEIGHTS = torch.tensor([[0.75, 0.25, 0.0], [0.1, 0.2, 0.7]])


@pytest.fixture(autouse=True)
def closed_figures():
    with plt.rc_context():
        use_style()
        yield
        plt.close("all")


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_an_attention_map_labels_queries_and_keys_and_writes_the_weights():
    ax = attention_map(WEIGHTS, ["le", "chat"], ["the", "cat", "$"], title="one head")
    assert tick_labels(ax.yaxis) == ["le", "chat"]
    assert tick_labels(ax.xaxis) == ["the", "cat", "$"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("key", "query", "one head")
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    assert cells == {(0, 0): "0.75", (1, 0): "0.25", (2, 0): "0", (0, 1): "0.10", (1, 1): "0.20", (2, 1): "0.70"}
    assert np.allclose(ax.images[0].get_array(), WEIGHTS)
    assert ax.images[0].get_clim() == (0.0, 1.0)


def test_the_value_in_a_cell_stands_out_from_its_color():
    ax = attention_map([[1.0, 0.0]], ["q"], ["a", "b"])
    dark, light = ax.texts
    assert dark.get_color() == "white"
    assert light.get_color() != "white"


def test_a_large_map_has_no_values_unless_asked():
    weights, tokens = torch.full((9, 9), 1 / 9), list("transform")
    assert not attention_map(weights, tokens, tokens).texts
    assert len(attention_map(weights, tokens, tokens, show_values=True).texts) == 81
    assert not attention_map(WEIGHTS, "ab", "abc", show_values=False).texts


def test_a_map_of_eight_by_eight_still_has_values():
    assert len(attention_map(torch.eye(8), "abcdefgh", "abcdefgh").texts) == 64


def test_the_largest_weight_and_the_columns_may_be_chosen():
    assert attention_map(WEIGHTS, "ab", "abc", largest=0.5).images[0].get_clim() == (0.0, 0.5)
    figure = attention_maps(torch.ones(4, 2, 3) / 3, "ab", "abc", columns=2, largest=0.5)
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 2)
    assert {ax.images[0].get_clim() for ax in figure.axes} == {(0.0, 0.5)}


def test_long_key_labels_are_slanted():
    short, long = (attention_map(WEIGHTS, "ab", labels) for labels in ("abc", ["attention", "is", "everything"]))
    assert [label.get_rotation() for label in short.get_xticklabels()] == [0, 0, 0]
    assert [label.get_rotation() for label in long.get_xticklabels()] == [45, 45, 45]


def test_a_map_can_be_drawn_on_given_axes():
    ax = plt.subplots()[1]
    assert attention_map(WEIGHTS, "ab", "abc", ax) is ax
    assert heat_map(WEIGHTS, "key", "query", ax=ax) is ax
    assert curves({"a": [1, 2]}, "x", "y", ax=ax) is ax
    assert bars({"a": 1}, "y", ax=ax) is ax


@pytest.mark.parametrize("weights", [
    WEIGHTS.bfloat16(), WEIGHTS.clone().requires_grad_(), WEIGHTS.numpy(), WEIGHTS.tolist(),
])
def test_data_may_be_any_tensor_array_or_list(weights):
    shown = attention_map(weights, "ab", "abc").images[0].get_array()
    assert np.allclose(shown, WEIGHTS, atol=1e-2)


@pytest.mark.parametrize("heads, keys, rows, columns", [(1, 3, 1, 1), (4, 3, 1, 4), (8, 3, 2, 4), (3, 9, 2, 2)])
def test_attention_maps_lay_the_heads_out_in_a_grid(heads, keys, rows, columns):
    figure = attention_maps(torch.ones(heads, 2, keys) / keys, "ab", "abcdefghi"[:keys])
    assert figure.axes[0].get_gridspec().get_geometry() == (rows, columns)
    visible = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in visible] == [f"head {h}" for h in range(1, heads + 1)]
    assert {ax.images[0].get_clim() for ax in visible} == {(0.0, 1.0)}


def test_a_heat_map_is_centered_on_zero_where_values_are_negative():
    assert heat_map([[1.0, 3.0]], "x", "y").images[0].get_clim() == (0.0, 3.0)
    assert heat_map([[-1.0, 3.0]], "x", "y").images[0].get_clim() == (-3.0, 3.0)
    assert heat_map([[0.0, 0.0]], "x", "y").images[0].get_clim() == (0.0, 1.0)
    assert heat_map([[-float("inf"), 2.0]], "x", "y").images[0].get_clim() == (0.0, 2.0)


def test_a_heat_map_writes_values_where_its_cells_are_labeled():
    ax = heat_map([[1.0, -2.5]], "x", "y", rows=["a"], columns=["b", "c"], title="scores")
    assert [text.get_text() for text in ax.texts] == ["1.00", "-2.50"]
    assert (tick_labels(ax.yaxis), tick_labels(ax.xaxis)) == (["a"], ["b", "c"])
    assert not heat_map([[1.0, -2.5]], "x", "y").texts
    assert len(heat_map([[1.0, -2.5]], "x", "y", show_values=True).texts) == 2
    assert len(ax.figure.axes) == 2, "a color bar"


def test_curves_draw_pairs_and_plain_sequences_with_a_legend():
    loss = [1, 10, 100], torch.tensor([3.0, 2.0, 1.0])
    ax = curves({"loss": loss, "flat": ((1, 10), (1, 1))}, "step", "loss", log="x")
    loss, flat = ax.lines
    assert list(loss.get_xdata()) == [1, 10, 100] and list(loss.get_ydata()) == [3, 2, 1]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss", "flat"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert to_rgb(loss.get_color()) != to_rgb(flat.get_color())


def test_a_sequence_alone_is_numbered_from_zero_and_needs_no_legend():
    ax = curves({"loss": [3.0, 2.0]}, "step", "loss", log="y")
    assert list(ax.lines[0].get_xdata()) == [0, 1]
    assert ax.get_legend() is None and ax.get_yscale() == "log"


def test_a_band_is_shaded_in_its_curves_color():
    ax = curves({"a": [1, 2], "b": [2, 3]}, "x", "y", bands={"b": ([1.5, 2.5], [2.5, 3.5])})
    (band,) = ax.collections
    assert to_rgb(band.get_facecolor()[0][:3]) == to_rgb(ax.lines[1].get_color())


def test_a_curve_of_many_points_is_rasterized():
    ax = curves({"long": torch.rand(3000), "short": torch.rand(10)}, "x", "y")
    assert [line.get_rasterized() for line in ax.lines] == [True, False]


def test_bars_show_values_and_spreads():
    ax = bars({"baseline": 0.45, "model": (0.117, 0.01)}, "phoneme error", digits=3)
    assert [bar.get_height() for bar in ax.patches] == [0.45, 0.117]
    assert {"0.450", "0.117"} == {text.get_text() for text in ax.texts}
    assert tick_labels(ax.xaxis) == ["baseline", "model"]
    assert sum(container.errorbar is not None for container in ax.containers if hasattr(container, "errorbar")) == 1


@pytest.mark.parametrize("draw, message", [
    (lambda: attention_map(torch.ones(2, 2, 2), "ab", "ab"), r"weights must have the shape \(T, S\), got \(2, 2, 2\)"),
    (lambda: attention_map(WEIGHTS, "abc", "abc"), "queries must have 2 labels, got 3"),
    (lambda: attention_map(WEIGHTS, "ab", "ab"), "keys must have 3 labels, got 2"),
    (lambda: attention_map(torch.ones(0, 2), "", "ab"), r"weights must have the shape \(T, S\), got \(0, 2\)"),
    (lambda: attention_map("weights", "ab", "ab"), "weights must be numbers of one shape, got str"),
    (lambda: attention_maps(WEIGHTS, "ab", "abc"), r"weights must have the shape \(H, T, S\), got \(2, 3\)"),
    (lambda: attention_maps(WEIGHTS[None], "ab", "abc", ["x", "y"]), "titles must have 1 labels, got 2"),
    (lambda: heat_map([1, 2], "x", "y"), r"matrix must have the shape \(rows, columns\), got \(2,\)"),
    (lambda: heat_map([[1, 2]], "x", "y", rows="ab"), "rows must have 1 labels, got 2"),
    (lambda: heat_map([[1, 2], [3]], "x", "y"), "matrix must be numbers of one shape, got list"),
    (lambda: curves({}, "x", "y"), "series must hold at least one curve"),
    (lambda: curves({"a": ([1, 2], [1, 2, 3])}, "x", "y"), "series.'a'. must be a sequence of 3, got the shape"),
    (lambda: curves({"a": [[1, 2]]}, "x", "y"), r"series.'a'. must be a sequence, got the shape \(1, 2\)"),
    (lambda: curves({"a": [1, 0]}, "x", "y", log="y"), "must be positive on the logarithmic y axis, got 0"),
    (lambda: curves({"a": [1, 2]}, "x", "y", log="x"), "must be positive on the logarithmic x axis, got 0"),
    (lambda: curves({"a": [1, 2]}, "x", "y", log="z"), "log must be"),
    (lambda: curves({"a": [1, 2]}, "x", "y", bands={"b": ([1], [2])}), "bands must belong .* 'b' has none"),
    (lambda: curves({"a": [1, 2]}, "x", "y", bands={"a": ([1], [2])}), "bands.'a'. must be a sequence of 2"),
    (lambda: curves({"a": []}, "x", "y"), r"series.'a'. must be a sequence, got the shape \(0,\)"),
    (lambda: curves({"a": ([], [])}, "x", "y", log="xy"), r"series.'a'. must be a sequence, got the shape \(0,\)"),
    (lambda: attention_map(WEIGHTS, "ab", "abc", largest=0.0), "largest must be a positive number, got 0.0"),
    (lambda: attention_maps(WEIGHTS[None], "ab", "abc", largest=float("nan")), "largest must be a positive number, got nan"),
    (lambda: attention_maps(WEIGHTS[None], "ab", "abc", columns=0), "columns must be at least 1, got 0"),
    (lambda: attention_maps(WEIGHTS[None], "abc", "abc"), "queries must have 2 labels, got 3"),
    (lambda: bars({}, "y"), "values must hold at least one bar"),
    (lambda: bars({"a": (1, 2, 3)}, "y"), r"values.'a'. must be a number or \(mean, spread\), got the shape \(3,\)"),
])
def test_wrong_data_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
    assert not plt.get_fignums()  # nothing is half drawn


def test_given_axes_stay_empty_where_data_are_refused():
    ax = plt.subplots()[1]
    for draw in (lambda: curves({"a": [1, 2], "b": [[1]]}, "x", "y", ax=ax),
                 lambda: heat_map([[1, 2]], "x", "y", ax=ax, rows="ab"),
                 lambda: curves({"a": [1, 2]}, "x", "y", ax=ax, bands={"a": ([1, 2], [3])})):
        with pytest.raises(ValueError):
            draw()
        assert not (ax.lines or ax.images or ax.collections or ax.texts)


def test_every_curves_color_has_three_to_one_contrast_on_white():
    def luminance(color):  # WCAG 2.2
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert all(1.05 / (luminance(color) + 0.05) >= 3 for color in COLORS)


DRAWING = """
import matplotlib, torch, sys
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tutorlib.plots import attention_map, curves, use_style
use_style()
figure, axes = plt.subplots(1, 2)
attention_map(torch.eye(3), "abc", "abc", axes[0])
curves({"a": [1, 2], "b": ([0, 1], [3, 4])}, "x", "y", ax=axes[1], bands={"a": ([0, 1], [2, 3])})
figure.savefig(sys.stdout.buffer, format="svg", metadata={"Date": None, "Creator": None})
"""


@pytest.mark.slow
def test_a_figure_is_the_same_bytes_in_two_processes():
    first, second = (
        subprocess.run([sys.executable, "-c", DRAWING], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                       capture_output=True).stdout
        for seed in ("1", "2")
    )
    assert first == second
    assert b"<svg" in first and b"<dc:date>" not in first and b"<text" not in first


@pytest.mark.slow
def test_a_notebook_shows_svg_without_a_date(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = ["from tutorlib.plots import curves, use_style\nuse_style()",
             "import matplotlib.pyplot as plt\n_ = curves({'a': [1, 2]}, 'x', 'y')\nplt.show()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    style, (shown,) = (cell.outputs for cell in notebook.cells)
    assert style == []
    assert "image/svg+xml" in shown.data and "image/png" not in shown.data
    assert "<dc:date>" not in shown.data["image/svg+xml"]
