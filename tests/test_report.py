"""Reports: which runs a path means, what of them differs, and what stands on the page."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from biopart.recipe import resolve
from biopart.run import Run
from biopart.studies.report.page import UNUSED, Curves, comparable, curves_of, side_by_side
from biopart.studies.report.report import distinguishing, find_entries, report
from biopart.studies.report.runs import Entry
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain

SMALL = {
    "name": "small",
    "split": {"test_persons": 2, "validation_persons": 2},
    "encoder": {"patch": [20], "dim": 16, "depth": 1, "heads": 2},
    "pretrain": {"steps": 12, "batch": 16, "warmup_epochs": 0.5, "validation_windows": 32},
    "finetune": {"subjects": 3, "epochs": 2, "batch": 16, "warmup_epochs": 1},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}
SCORE = {
    "kappa": 0.6124,
    "kappa_mean": 0.5,
    "kappa_ci95": [0.5021, 0.7],
    "kappa_by_person": {"p1": 0.5, "p2": 0.5},
    "accuracy": 0.81,
    "macro_f1": None,
    "f1": {"W": 0.8, "N1": 0.7},
    "confusion": [[30, 10], [0, 8]],
    "n_train_persons": 3,
    "test_persons": ["p1", "p2"],
    "warnings": ["no window of R among the persons drawn"],
}


@pytest.fixture(scope="module")
def real(small_store, tmp_path_factory):
    """A curve's folder of real runs: PART fine-tuned, MAE, and a supervised baseline; read-only."""
    folder = tmp_path_factory.mktemp("curve")
    part = {"name": "part", "patches": 8, "pairs": 16, "position_hint": 0.5}
    mae = {"name": "mae", "decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2}
    for name, objective in (("part", part), ("mae", mae)):
        wanted = {**SMALL, "data": {"store": str(small_store)}}
        wanted["pretrain"] = {**SMALL["pretrain"], "objective": objective}
        recipe = resolve(wanted, [], "small")
        pretrain(recipe, out=folder / "runs" / f"{name}-seed0", latest=False)
    finetune(Run(folder / "runs" / "part-seed0"))
    without = Run(folder / "runs" / "supervised-seed0")
    without.path.mkdir()
    (without.path / "recipe.yaml").write_text(recipe.to_yaml())
    finetune(without, from_scratch=True)
    return folder


def write_run(path, *, rows=(), results=None, about=None, recipe=None):
    """Write a run folder by hand."""
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe or SMALL))
    if about is not None:
        (path / "provenance.json").write_text(json.dumps(about))
    for row in rows:
        Run(path).log(row)
    for name, result in (results or {}).items():
        (path / "finetune" / name).mkdir(parents=True)
        (path / "finetune" / name / "result.json").write_text(json.dumps(result))
    return path


def page_of(runs, tmp_path):
    return report(runs, tmp_path / "report.html").read_text()


def row_of(page, section, key):
    """Return the cells of a table's row, with their marks, by its first cell."""
    part = page[page.index(f'<section id="{section}">') :].replace("<wbr>", "")
    row = re.search(rf'<tr><th scope="row">{re.escape(key)}</th>(.*?)</tr>', part, re.DOTALL)
    assert row, f"no row {key}"
    return [cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[1], re.DOTALL)]


def test_settings_that_differ_are_marked_and_those_without_effect_are_not(real, tmp_path):
    page = page_of([real], tmp_path)
    assert "Report of 3 runs" in page
    names = row_of(page, "settings", "pretrain.objective.name")
    assert names == ["mae", "<mark>part</mark>", "not used"]
    assert row_of(page, "settings", "pretrain.objective.pairs") == ["-", "16", "not used"]
    assert row_of(page, "settings", "encoder.depth") == ["1"]  # equal in all: said once
    differing = page.index("settings that differ")
    equal = page.index("settings equal in all runs")
    assert differing < page.replace("<wbr>", "").index("pretrain.objective.name") < equal


def test_real_runs_stand_with_their_state_losses_and_scores(real, tmp_path):
    page = page_of([real], tmp_path)
    for label, objective, steps, state in (
        ("mae-seed0", "mae", "12 of 12", "finished"),
        ("supervised-seed0", "none", "-", "no pretraining"),
    ):
        cells = row_of(page, "runs", label)
        assert [cells[1], cells[4], cells[5]] == [objective, steps, state]
    result = Run(real / "runs" / "part-seed0" / "finetune" / "s3-seed0").result()
    low, high = result["kappa_ci95"]
    cells = row_of(page, "results", "part-seed0")
    assert cells[0] == "s3-seed0"
    assert cells[3].startswith(f"{result['kappa']:.3f} ")
    assert f"({low:.3f} to {high:.3f})" in cells[3]
    assert "Pretraining: mae" in page
    assert "Pretraining: part" in page
    assert 'aria-label="training loss over steps; final values part-seed0 ' in page


def test_provenance_of_a_baseline_is_that_of_its_fine_tuning(real, tmp_path):
    page = page_of([real], tmp_path)
    assert "supervised-seed0: no pretraining; the table shows the newest fine-tuning" in page
    mae, part, baseline = row_of(page, "provenance", "parameters")
    assert int(mae) > 0
    assert baseline == "-"
    assert re.sub("</?mark>", "", part) != mae
    chosen = Run(real / "runs" / "part-seed0").provenance()["chosen"]
    assert row_of(page, "provenance", "chosen.precision") == [chosen["precision"]]


def test_the_page_loads_nothing(real, tmp_path):
    page = page_of([real], tmp_path)
    assert not re.search(r"<script|<link|@import|https?://|src=\"(?!data:)", page)
    assert all("aria-label=" in image for image in re.findall(r"<svg [^>]*>", page))
    assert "not a medical device" in page


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (".", ["mae-seed0", "mae-seed2", "mae-seed10"]),
        ("runs", ["far", "mae-seed0", "mae-seed2", "mae-seed10"]),
        ("runs/mae-seed2", ["mae-seed2"]),
    ],
)
def test_a_folder_gives_the_runs_up_to_two_levels_below(tmp_path, given, labels):
    for name in ("mae-seed10", "mae-seed2", "mae-seed0", "deep/far"):
        write_run(tmp_path / "curve" / "runs" / name)
    found = find_entries([tmp_path / "curve" / given])
    assert [entry.label for entry in found] == labels


def test_a_run_named_twice_stands_once_with_all_its_fine_tunings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(Path("R"), results={"s1-seed0": SCORE, "s10-seed0": SCORE, "s2-seed0": SCORE})
    alone = Path("R/finetune/s2-seed0")
    (entry,) = find_entries([alone])
    assert (entry.path, [trial.name for trial in entry.trials]) == (Path("R"), ["s2-seed0"])
    (entry,) = find_entries([alone, tmp_path / "R", alone])
    assert [trial.name for trial in entry.trials] == ["s1-seed0", "s2-seed0", "s10-seed0"]
    monkeypatch.chdir(alone)
    (entry,) = find_entries([Path()])
    assert (entry.path, entry.label) == (tmp_path / "R", "R")


def test_equal_names_are_told_apart_by_the_shortest_end():
    paths = [Path(text) for text in ("/a/x/r", "/b/x/r", "/b/y/r", "/q")]
    assert list(distinguishing(paths).values()) == ["a/x/r", "b/x/r", "y/r", "q"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "nothing does not exist; give the folder of a run"),
        ("file", "file is a file; give the folder of a run"),
        ("empty", "empty is not a run .* make one with: biopart pretrain RECIPE"),
    ],
)
def test_a_wrong_path_gets_one_sentence(tmp_path, path, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        report([tmp_path / path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_run_a_folder_as_page_and_damaged_files_are_named(tmp_path):
    run = write_run(tmp_path / "R")
    with pytest.raises(ValueError, match="no run was given"):
        report([], tmp_path / "report.html")
    with pytest.raises(ValueError, match="R is a folder; give a file to write"):
        report([run], run)
    (run / "provenance.json").write_text('{"steps": 1')
    with pytest.raises(ValueError, match=r"provenance.json is damaged .* leave out its run"):
        report([run], tmp_path / "report.html")


def test_a_run_in_training_says_how_far_it_is(tmp_path):
    rows = [
        {"step": 1, "train/loss": 3.0, "train/chance_loss": 2.5, "windows_per_second": 16.0},
        {"step": 10, "train/loss": 1.5, "train/chance_loss": 2.5, "windows_per_second": 72.0},
        {"step": 10, "validation/loss": 1.7},
    ]
    run = write_run(tmp_path / "R", about={"steps": 1200}, rows=rows)
    tuning = run / "finetune" / "s3-seed1"
    tuning.mkdir(parents=True)
    (tuning / "finetune.yaml").write_text(yaml.safe_dump(SMALL))
    Run(tuning).log({"step": 20, "steps": 60, "train/loss": 0.5})
    page = page_of([run], tmp_path)
    cells = row_of(page, "runs", "R")
    assert cells[4] == "10 of 1,200"
    assert cells[5].startswith("in training, or stopped; last logged 2")
    assert cells[6] == "3.0"  # 16 windows at 16 a second, then 9 steps of 16 at 72
    assert "R, s3-seed1: unfinished: step 20 of 60" in page
    assert "Fine-tuning, labelled persons: 3" in page
    assert "Nothing has been scored yet." in page


@pytest.mark.parametrize(
    ("step", "weights", "state"),
    [(12, True, "finished"), (12, False, "no weights"), (0, False, "before the first step")],
)
def test_the_state_of_a_run(tmp_path, step, weights, state):
    rows = [{"step": step, "train/loss": 1.0}] if step else []
    run = write_run(tmp_path / "R", about={"steps": 12}, rows=rows)
    if weights:
        (run / "encoder.safetensors").touch()
    assert state in Entry(run, "R").state


def test_a_segmentation_is_finished_by_its_model_and_its_scores_stand_in_a_table(tmp_path):
    rows = [{"step": 9, "train/loss": 1.0}]
    run = write_run(tmp_path / "R", about={"kind": "segmentation", "steps": 9}, rows=rows)
    assert Entry(run, "R").state == "no weights"
    (run / "model.safetensors").touch()
    entry = Entry(run, "R")
    assert (entry.state, entry.objective) == ("finished", "segmentation")
    scores = {"F1": {"value": 0.5912, "ci95": [0.25, 0.75]}}
    (run / "result.json").write_text(json.dumps({"scores": scores, "seconds": 3.5, "steps": 9}))
    page = page_of([run], tmp_path)
    (cell,) = row_of(page, "results", "F1")
    assert re.findall(r"[\d.]+", cell)[:3] == ["0.591", "0.250", "0.750"]
    assert "Segmentation" in page
    assert "Nothing has been scored yet" not in page


def test_a_score_stands_with_its_interval_notes_and_confusion(tmp_path):
    run = write_run(tmp_path / "R", results={"s3-seed7": SCORE})
    page = page_of([run], tmp_path)
    cells = row_of(page, "results", "R")
    assert cells[:3] == ["s3-seed7", "3", "7"]
    assert re.sub("<[^>]*>", "", cells[3]) == "0.612 (0.502 to 0.700)"
    assert cells[4:7] == ["0.500", "\N{EN DASH}", "0.810"]
    assert cells[-1] == "1"
    assert "<li>no window of R among the persons drawn</li>" in page
    assert row_of(page, "results", "W") == [
        "30<br><small>75 %</small>",
        "10<br><small>25 %</small>",
    ]
    assert "All settings" not in page  # one run: nothing to compare
    assert "The test persons differ" not in page


def test_scores_on_other_persons_or_stores_stand_apart(tmp_path):
    other = SCORE | {"test_persons": ["p1", "p3"]}
    a = write_run(tmp_path / "a", results={"s3-seed0": SCORE, "s3-seed1": other})
    b = write_run(tmp_path / "b", results={"s3-seed0": SCORE})
    groups = comparable(find_entries([a, b]))
    names = [[(e.label, t.name) for e, t in group.scores] for group in groups]
    assert names == [[("a", "s3-seed0"), ("b", "s3-seed0")], [("a", "s3-seed1")]]
    assert "The test persons differ: there are 2 sets of persons or stores." in page_of(
        [a, b], tmp_path
    )
    (b / "finetune" / "s3-seed0" / "provenance.json").write_text('{"store_sha256": "f00"}')
    assert len(comparable(find_entries([a, b]))) == 3


def test_probes_and_evaluations_are_scores_too(tmp_path):
    run = write_run(tmp_path / "R", results={"s3-seed0": SCORE})
    evaluation = run / "finetune" / "s3-seed0" / "evaluation" / "other.zarr" / "result.json"
    probe = run / "probe" / "s5-seed0.json"
    for file, result in ((evaluation, SCORE | {"store": "o"}), (probe, {"band_powers": SCORE})):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(result))
    names = [trial.name for trial in Entry(run, "R").trials]
    assert names == ["s3-seed0", "s3-seed0 on other.zarr", "probe s5-seed0, band_powers"]


def test_a_fine_tuning_with_settings_of_its_own_says_so(tmp_path):
    about = {"commit": "abc", "versions": {"torch": "2.9"}}
    run = write_run(tmp_path / "R", about=about, results={"s3-seed0": SCORE})
    tuning = run / "finetune" / "s3-seed0"
    changed = SMALL | {"finetune": SMALL["finetune"] | {"epochs": 9}, "seed": 4}
    (tuning / "finetune.yaml").write_text(yaml.safe_dump(changed))
    (tuning / "provenance.json").write_text(json.dumps(about | {"versions": {"torch": "2.8"}}))
    page = page_of([run], tmp_path)
    assert "<li><mark>finetune.epochs 9 (run: 2)</mark></li>" in page
    assert "<li><mark>versions.torch 2.8 (run: 2.9)</mark></li>" in page
    assert "seed 4" not in page


def test_simulated_runs_are_named_above_all(tmp_path):
    a = write_run(tmp_path / "a", about={"simulated": True})
    b = write_run(tmp_path / "b", about={"simulated": False})
    banner = "Simulated recordings in a: none of their scores is a result"
    assert banner in page_of([a, b], tmp_path)
    assert "Simulated recordings: no number on this page" in page_of([a], tmp_path)
    assert "Simulated" not in page_of([b], tmp_path)


def test_names_and_values_are_escaped(tmp_path):
    rows = [{"step": 1, "train/loss": 1.0}]
    run = write_run(
        tmp_path / '_<b>"$x"&y',
        about={"steps": 1, "notes": ["<i>one</i>"]},
        rows=rows,
        results={"<u>": SCORE | {"warnings": ["<script>alert(1)</script>"]}},
        recipe=SMALL | {"name": "<em>"},
    )
    page = page_of([run], tmp_path)
    assert not re.search(r"<(b|i|u|em|script)>", page)
    assert "&lt;b&gt;" in page
    assert "&lt;script&gt;alert(1)" in page


def test_side_by_side_marks_what_is_rare():
    columns = [
        {"lr": 1, "on": 1, "seen": list("abcdefghij")},
        {"lr": 2, "on": True, "seen": list("abcdefghij")},
        {"lr": 2, "on": True, "head": 4, "seen": [*"abcdefghi", "z"]},
        {"lr": UNUSED, "on": True, "seen": list("abcdefghij")},
    ]
    lines = {line.key: line for line in side_by_side(columns)}
    marks = {key: [cell.marked for cell in line.cells] for key, line in lines.items()}
    assert marks["lr"] == [True, False, False, False]
    assert marks["on"] == [True, False, False, False]  # 1 is not true
    assert marks["seen"] == [False, False, True, False]
    assert [cell.text for cell in lines["head"].cells] == ["-", "-", "4", "-"]
    assert all(line.differs for line in lines.values())
    assert lines["seen"].cells[0].text == "10: a, b, c, ..."
    assert lines["seen"].cells[2].whole == "a, b, c, d, e, f, g, h, i, z"
    assert not any(line.differs for line in side_by_side([{"a": [1]}, {"a": [1]}, {"a": UNUSED}]))


def test_every_run_is_drawn_with_its_chance_and_keeps_its_look():
    def rows(*losses, chance):
        return [{"step": n, "t/loss": x, "t/chance_loss": chance} for n, x in enumerate(losses)]

    without = [{"step": 0, "t/other": 1.0}]
    lines = {f"r{n}": rows(2.0, 1.0, chance=3.0) for n in range(8)}
    curves = Curves("Pretraining: part", {"empty": without, **lines, "z": rows(5.0, chance=4.0)})
    figure = curves.draw("t/loss")
    drawn = figure.axes[0].lines
    assert len(drawn) == 2 * 9
    assert list(drawn[0].get_ydata()) == [2.0, 1.0]
    assert [line.get_ydata()[0] for line in drawn[9:]] == [3.0] * 8 + [4.0]
    styles = [(line.get_color(), line.get_linestyle()) for line in drawn[:9]]
    assert len(set(styles)) == 9
    second = Curves("", {"empty": without, **lines}).draw("t/other").axes[0].lines[0]
    assert second.get_color() == curves.styles["empty"][0]
    assert figure.get_label().startswith(
        "loss, held-out persons over steps; final values r0 1, r1 1"
    )
    assert figure.get_label().endswith("and 1 more")
    assert curves.draw("t/nothing") is None


def test_probes_while_training_are_drawn_over_steps_where_a_run_has_them(tmp_path):
    about = {"steps": 20, "simulated": False}
    rows = [
        {"step": 0, "probe/kappa": 0.1, "probe/rank": 9.5, "probe/std": 0.3},
        {"step": 10, "train/loss": 0.5},
        {"step": 20, "probe/kappa": 0.4, "probe/rank": 4.5, "probe/std": 0.2},
    ]
    probed = write_run(tmp_path / "probed", rows=rows, about=about)
    plain = write_run(tmp_path / "plain", rows=rows[1:2], about=about)
    (curves,) = curves_of(find_entries([probed, plain]))
    assert curves.names == ["train/loss", "probe/kappa", "probe/rank", "probe/std"]
    (line,) = curves.draw("probe/kappa").axes[0].lines
    assert line.get_xydata().tolist() == [[0, 0.1], [20, 0.4]]
    main = {caption: is_main for caption, is_main, _ in curves.pictures()}
    assert main == {
        "training loss": True,
        "Cohen's kappa of a linear probe, held-out persons": True,
        "effective rank (RankMe), held-out persons": False,
        "spread of features (1 = even, 0 = collapsed), held-out persons": False,
    }
    assert "Cohen&#39;s kappa of a linear probe" in page_of([probed, plain], tmp_path)


def test_a_run_of_another_version_is_shown_as_far_as_it_goes(real, tmp_path):
    run = tmp_path / "old"
    shutil.copytree(real / "runs" / "mae-seed0", run)
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    del values["pretrain"]["objective"], values["encoder"]["dim"]
    (run / "recipe.yaml").write_text(yaml.safe_dump({**values, "new": {"key": 5}}))
    page = page_of([run, real / "runs" / "mae-seed0"], tmp_path)
    assert row_of(page, "runs", "old")[1] == "unnamed"
    assert row_of(page, "settings", "new.key") == ["5", "-"]
    assert row_of(page, "settings", "encoder.dim") == ["-", "16"]
