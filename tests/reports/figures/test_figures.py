"""Figures: where their marks stand, what is written on them, what is left out, and that bytes stay the same."""

import csv
import io
import itertools
import os
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.text import Text
from typer.testing import CliRunner

from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.cli.main import app
from instructedit.editors import InputError
from instructedit.reports.figures import directions, geometry
from instructedit.reports.figures.panels import apart
from instructedit.reports.figures.results import NoDataError, read_results
from instructedit.reports.figures.style import _EDITORS, _TASKS, editor_looks, save, styled
from instructedit.reports.figures.write import FIGURES, write_figures

from ..suites import trained, write_index, write_run
from . import figure_results as made

GOLDEN = Path(__file__).parent / "golden"
DRAWN_WITH = "3.11.2"
"""Version of matplotlib that the golden files were drawn with; another one may place text otherwise."""


@pytest.fixture(autouse=True)
def in_style():
    with styled():
        yield


@pytest.fixture(scope="module")
def quick():
    """t-SNE takes seconds and has tests of its own; here the cosines with the first and the last edit stand for it."""
    pytest.importorskip("sklearn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "tsne", lambda cosines: cosines[:, [0, -1]])
        yield


@pytest.fixture(scope="module")
def instructions(tmp_path_factory):
    """Two seen descriptions, right in cases 0 to 7 and 0 to 3 of ten, and an unseen one, right in 0 to 4."""
    rows = [trained(f"instructedit#{told}", "recent", instruction=told) for told in ("seen-0", "seen-1", "unseen")]
    place = tmp_path_factory.mktemp("instructions")
    right = {"seen-0": 8, "seen-1": 4, "unseen": 5}
    entry = write_run(
        place,
        "unseen-instruction",
        rows,
        0,
        lambda row, task, seed, case: float(case < right[row.partition("#")[2]]),
        tasks=("recent",),
    )
    summary = summarise_suite(place, write_index(place, entry))
    return made.results(*summary.groups, folders={entry.digest: place / entry.digest})


@pytest.fixture(scope="module")
def every(tmp_path_factory, instructions, quick):
    """A drawing of each figure by its name."""
    of = {
        "task-scaling": made.results(made.scaling()),
        "balanced": made.results(made.balanced()),
        "tradeoff": made.results(made.multi_task()),
        "retention": made.results(made.sequential()),
        "instructions": instructions,
        "directions": made.directions(tmp_path_factory.mktemp("directions")),
    }
    with styled():
        return {name: next(FIGURES[name](found)) for name, found in of.items()}


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def marks(axes):
    """Position and interval of every mark with error bars: x, y, low, high."""
    found = []
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            x, y = (float(values[0]) for values in container.lines[0].get_data())
            (_, low), (_, high) = container.lines[2][0].get_segments()[0]
            found.append((x, y, low, high))
    return found


def test_task_scaling():
    drawing = next(FIGURES["task-scaling"](made.results(made.scaling())))
    assert titles(drawing.figure) == [
        "Recent (1 seed)\nexact match, n = 10",
        "CounterFact (1 seed)\nexact match, n = 10",
        "exact match†, n = 10",
        "exact match†, n = 10",
    ]
    found = marks(drawing.figure.axes[0])
    assert [round(x) for x, *_ in found] == [1, 2, 1, 2]
    assert [y for _, y, *_ in found] == pytest.approx([40, 80, 30, 70])
    assert [ends for _, _, *ends in found] == [pytest.approx([y - 5, y + 5]) for y in (40, 80, 30, 70)]
    assert "1: Recent; 2: Recent, CounterFact" in drawing.caption[0]
    assert {row["runs"] for row in drawing.numbers} == {made.scaling().digests[0]}


def test_balanced():
    drawing = next(FIGURES["balanced"](made.results(made.balanced())))
    first = drawing.figure.axes[0]
    heights = [bar.get_height() for bars in first.containers if isinstance(bars, BarContainer) for bar in bars]
    assert heights == pytest.approx([90, 70, 50, 60])  # full, then balanced; MEND, then InstructEdit
    assert [list(line.get_ydata()) for line in first.lines if line.get_linestyle() == ":"] == [[25, 25]]  # none
    assert [label.get_text() for label in first.get_xticklabels()] == ["full", "balanced"]
    shown = [axes for axes in drawing.figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == [
        "Recent (1 seed)\nexact match, n = 10",
        "CounterFact (1 seed)\nexact match, n = 10",
        "ConvSent (1 seed)\nedit success, n = 10",
        "exact match, n = 7",
    ]


def test_instructions(instructions):
    drawing = next(FIGURES["instructions"](instructions))
    (axes,) = drawing.figure.axes
    heights = [bar.get_height() for bars in axes.containers if isinstance(bars, BarContainer) for bar in bars]
    assert heights == pytest.approx([60, 50])  # (8 + 4) / 20 and 5 / 10
    # By case: 0 four times (0 to 3), 1 - 1/2 once (4), 0 - 1/2 three times (5 to 7), 0 twice: -1 of ten.
    assert re.fullmatch(r"instructedit\n−10\.0 \[−\d+\.\d, \+\d+\.\d\]", axes.get_xticklabels()[0].get_text())
    assert axes.get_title() == "recent (1 seed)\nexact match, n = 10"
    first, second = drawing.numbers
    assert (first["row"], first["mean"], first["n"]) == ("instructedit#seen-0, instructedit#seen-1", 0.6, 10)
    assert first["low"] < 0.6 < first["high"]
    assert second["row"] == "instructedit#unseen"


def test_tradeoff_shows_both_of_two_equal_editors():
    drawing = next(FIGURES["tradeoff"](made.results(made.multi_task())))
    recent, _, convsent, empty = drawing.figure.axes
    assert recent.get_title() == "Recent (multi-task), n = 10, 1 seed"
    lines = [container.lines for container in recent.containers]
    none, *equal = [(float(mark.get_xdata()[0]), float(mark.get_ydata()[0])) for mark, *_ in lines]
    assert none == (100, 0)
    # The two equal marks are moved apart by as much in opposite directions, and the caption says how far.
    assert np.mean(equal, axis=0) == pytest.approx((75, 50))
    assert 1 < np.abs(np.subtract(*equal)).max() < 5
    assert "Marks that would overlap are moved apart, by at most 2 points." in drawing.caption[0]
    assert {row["mean"] for row in drawing.numbers if row["task"] == "recent"} == {0, 0.5, 0.75, 1}
    assert len({mark.get_marker() for mark, *_ in lines}) == 3
    assert {mark.get_markerfacecolor() for mark, *_ in lines} == {"none"}
    assert all(len(bars) == 2 for *_, bars in lines)  # intervals of both means
    assert convsent.get_ylabel() == "Reliability (%), edit success"
    assert convsent.get_xlabel() == "Locality (%), exact match"
    assert not empty.axison


def test_retention_keeps_stages_apart():
    drawing = next(FIGURES["retention"](made.results(made.sequential())))
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        *("own edit\nn = 12", "13\nn = 9 (few)", "20\nn = 11", "24 (all)\nn = 12")
    ]
    found = marks(axes)
    assert len(found) == 11  # ft-l's one case of twelve is not drawn
    assert "Not drawn where fewer than half of the cases of a stage could be scored: FT-L" in " ".join(drawing.notes)
    assert ("ft-l", "after-edit") not in {(row["series"], row["x"]) for row in drawing.numbers}
    # No line leads from the scores after the own edit to those after K, nor to those of few cases.
    joined = [line.get_xdata() for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata()) == 2]
    joined = [x for x in joined if min(x) != max(x)]
    assert [(round(min(x)), round(max(x))) for x in joined] == [(2, 3)] * 3
    hollow = [c.lines[0].get_xdata()[0] for c in axes.containers if c.lines[0].get_markerfacecolor() == "white"]
    assert [round(x) for x in hollow] == [1, 1, 1]
    assert "Hollow marks: fewer than 10 cases." in drawing.caption[0]


def test_directions(tmp_path, quick):
    drawing = next(FIGURES["directions"](made.directions(tmp_path)))
    pictures, tables = drawing.figure.axes[:3], drawing.figure.axes[3:]
    assert [axes.get_title() for axes in pictures] == [
        "MEND, each task by the\neditor trained on it alone\nn = 12 edits, 6 a task, seed 7",
        "MEND, trained on\nRecent, CounterFact\nn = 12 edits, 6 a task, seed 7",
        "InstructEdit, trained on\nRecent, CounterFact\nn = 12 edits, 6 a task, seed 7",
    ]
    assert [len(marks.get_offsets()) for axes in pictures for marks in axes.collections] == [6] * 6
    assert [text.get_text() for text in tables[0].texts] == [
        "silhouette",
        "0.50 [0.50, 0.50]",
        "probe (chance 0.50)",
        "1.00 [0.74, 1.00]",  # 0.025 ** (1 / 12)
        "cosine within",
        "0.50 [0.50, 0.50]",
        "cosine between",
        "0.00 [0.00, 0.00]",
    ]
    assert directions.DEFINITION in drawing.caption[0]
    assert "(here 3.7)" in drawing.notes[0]  # a third of eleven other points
    assert {row["statistic"] for row in drawing.numbers} == {
        "silhouette",
        "probe accuracy",
        "cosine within",
        "cosine between",
    }


def test_directions_of_rows_that_the_run_does_not_have_are_refused(tmp_path):
    found = made.directions(tmp_path)
    single = found.groups[0]
    spec = single.run.spec.model_copy(update={"editors": single.run.spec.editors[:1]})
    cut = single.model_copy(update={"run": single.run.model_copy(update={"spec": spec})})
    with pytest.raises(InputError, match=r"set 'mend': the run has no row 'mend@counterfact'"):
        list(FIGURES["directions"](made.results(cut, folders=found.folders)))


def test_directions_name_the_command_that_is_missing():
    with pytest.raises(
        NoDataError, match=r"no run has a file directions\.npz; 'instructedit directions DIR' writes it"
    ):
        list(FIGURES["directions"](made.results(made.scaling())))


def test_too_few_directions_are_no_figure(tmp_path, quick):
    with pytest.raises(NoDataError, match="'mend' has fewer than 5 directions of 'recent'"):
        list(FIGURES["directions"](made.directions(tmp_path, each=4)))


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_nothing_to_draw_is_a_sentence(name):
    with pytest.raises(NoDataError, match=r"\.$"):
        list(FIGURES[name](made.results(made.group("direct", made.PLAIN, []))))


def test_no_text_overlaps_and_none_is_cut_off(every):
    for name, drawing in every.items():
        canvas = FigureCanvasAgg(drawing.figure)
        canvas.draw()
        boxes = []
        for text in drawing.figure.findobj(Text):
            inside = text.axes is None or text.axes.axison or text in text.axes.texts
            if text.get_text() and text.get_visible() and inside:
                boxes.append((text.get_text(), text.get_window_extent(canvas.get_renderer())))
        width, height = canvas.get_width_height()
        for text, box in boxes:
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (name, text)
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
            assert apart, (name, one, other)


def test_every_panel_says_n(every):
    for drawing in every.values():
        for axes in drawing.figure.axes:
            if axes.axison:
                words = [axes.get_title(), *(label.get_text() for label in axes.get_xticklabels())]
                assert any("n = " in word for word in words)


@pytest.mark.parametrize("looks", [_EDITORS, _TASKS])
def test_no_two_looks_share_a_marker_a_colour_or_a_hatch(looks):
    for field in ("marker", "colour", "hatch"):
        assert len({getattr(look, field) for look in looks.values()}) == len(looks)


def test_rows_of_one_method_and_unknown_ones_get_looks_of_their_own():
    looks = editor_looks([("mend", "mend"), ("mend long", "mend"), ("mine", "mine"), ("theirs", "theirs")])
    assert looks["mend"] == _EDITORS["mend"]
    assert len({look.marker for look in looks.values()}) == 4


def test_golden_files(every, tmp_path):
    """With INSTRUCTEDIT_WRITE_GOLDEN the files are drawn again: of a figure that was changed on purpose."""
    if mpl.__version__ != DRAWN_WITH:
        pytest.skip(f"drawn with matplotlib {DRAWN_WITH}")
    for name, drawing in every.items():
        if os.environ.get("INSTRUCTEDIT_WRITE_GOLDEN"):
            save(drawing.figure, GOLDEN, name, ("svg",))
        (path,) = save(drawing.figure, tmp_path, name, ("svg",))
        assert path.read_bytes() == (GOLDEN / path.name).read_bytes(), name


def test_the_same_results_give_the_same_bytes_whatever_the_users_own_settings(tmp_path, instructions):
    def draw(*formats):
        with styled():
            drawing = next(FIGURES["instructions"](instructions))
            return {path.suffix: path.read_bytes() for path in save(drawing.figure, tmp_path, "figure", formats)}

    first = draw("svg", "pdf", "png")
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": None, "lines.linewidth": 9}):
        assert draw("png", "pdf", "svg") == first
    assert draw("png")[".png"] == first[".png"]
    assert b"/FontFile2" in first[".pdf"]  # the font is part of the PDF
    assert b"<text" not in first[".svg"]  # and text is drawn in the SVG


@pytest.fixture
def suite(tmp_path):
    """A finished run of the setting hold-out as a suite of its own and one of multi-task."""
    rows = [*made.PLAIN, trained("mend", "recent")]
    entries = [
        write_run(tmp_path, setting, rows, 0, lambda row, task, seed, case: case / 10, tasks=("recent",))
        for setting in ("multi-task", "hold-out")
    ]
    write_index(tmp_path, *entries)
    return tmp_path


def test_the_command_says_what_it_leaves_out(suite):
    found = CliRunner().invoke(app, ["figures", str(suite), "--format", "svg"])
    assert found.exit_code == 0, found.output
    assert "no figure 'directions': no run has a file directions.npz" in found.output
    assert "no figure 'tradeoff': no task with both reliability and locality." in found.output
    assert "there is nothing to draw" in found.output


def test_a_figure_that_was_asked_for_and_unknown_names_are_errors(suite):
    for words, sentence in (
        (["--only", "task-scaling"], "no figure 'task-scaling': no run of the setting 'task-scaling'"),
        (["--only", "tradeof"], "Unknown figure 'tradeof'. Did you mean 'tradeoff'?"),
        (["--format", "gif"], "Unknown format 'gif'."),
    ):
        found = CliRunner().invoke(app, ["figures", str(suite), *words])
        assert found.exit_code == 2
        assert sentence in " ".join(found.output.split())


def test_suites_of_one_folder_are_drawn_one_by_one(suite):
    (first,) = (suite / "suites").glob("*.json")
    second = first.with_name("second.json")
    second.write_bytes(first.read_bytes())
    found = CliRunner().invoke(app, ["figures", str(suite), "--format", "svg"])
    assert found.exit_code == 0, found.output
    lines = " ".join(found.output.split())
    assert all(f"{place}: there is nothing to draw" in lines for place in (first, second))
    found = CliRunner().invoke(app, ["figures", str(suite), "--only", "tradeoff"])
    assert found.exit_code == 2 and "no figure 'tradeoff'" in " ".join(found.output.split())


def test_one_run_is_enough(folder, run, summary):
    spec = run.spec.model_copy(update={"setting": "direct"})
    (folder / "run.json").write_text(run.model_copy(update={"spec": spec}).model_dump_json())
    paths, without = write_figures(read_results(folder), folder / "figures", formats=("svg",))
    assert [path.name for path in paths] == ["tradeoff.svg", "tradeoff.md", "tradeoff.csv"]
    assert len(without) == len(FIGURES) - 1
    rows = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    wanted = next(
        mean
        for mean in summary.means
        if (mean.editor, mean.task, mean.measure, mean.protocol, mean.subset)
        == ("ft-l", "counterfact", "reliability", "teacher_forced_exact", None)
    )
    (row,) = [row for row in rows if (row["row"], row["task"], row["x"]) == ("ft-l", "counterfact", "y")]
    assert (float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"])) == (
        wanted.mean,
        wanted.low,
        wanted.high,
        wanted.n,
    )
    assert row["runs"] == run.digest
    assert run.digest in paths[1].read_text()


def test_an_invalid_run_is_refused(folder, summary):
    bad = summary.model_copy(update={"valid": False, "invalid_reason": "The weights changed."})
    (folder / "summary.json").write_text(bad.model_dump_json())
    with pytest.raises(InputError, match=r"INVALID \(The weights changed\.\)"):
        read_results(folder)


def test_warnings_stand_in_the_caption():
    found = made.results(made.scaling(), warnings=["Run 1 is INCOMPLETE."])
    assert next(FIGURES["task-scaling"](found)).caption[-1] == "Warning: Run 1 is INCOMPLETE."
    assert np.isfinite([row["mean"] for row in next(FIGURES["task-scaling"](found)).numbers]).all()


def test_a_legend_is_no_wider_than_its_figure():
    """Eleven rows with names as long as those of the quickstart, which nine columns cannot hold."""
    rows = [trained(f"instructedit-edit-only-{number}", "recent") for number in range(11)]
    means = [made.mean(row.name, "recent", measure, 0.5) for row in rows for measure in ("reliability", "locality")]
    (drawing,) = FIGURES["tradeoff"](made.results(made.group("multi-task", rows, means, tasks=("recent",))))
    drawing.figure.draw_without_rendering()
    (legend,) = drawing.figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= drawing.figure.bbox.width
    assert [text.get_text() for text in legend.get_texts()] == [row.name for row in rows]


def test_marks_that_would_overlap_are_moved_apart_and_others_are_not():
    places = [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (1.0, 0.0), (50.0, 50.0), (50.0, 54.5)]
    shifts = apart(places, (3.0, 4.0))
    moved = np.add(places, shifts) / (3.0, 4.0)
    assert min(np.hypot(*(a - b)) for a, b in itertools.combinations(moved, 2)) >= 0.99
    assert shifts[4:] == [(0, 0), (0, 0)]
    assert apart(places, (3.0, 4.0)) == shifts
    assert apart([], (3.0, 4.0)) == []
