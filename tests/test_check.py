import numpy as np
import pytest

from biopart.store import Record, Store, create_store, write_record
from biopart.verbs.check import check_leak, check_run, check_store
from biopart.verbs.info import info


def write(path, signal, label, person="p0", name="n0", bad=()):
    segments = np.array(bad, np.int64).reshape(-1, 2)
    values = signal.astype(np.int16), np.ones(len(signal)), np.array(label, np.int8), segments
    write_record(path, name, Record(*values, {"person": person}))


@pytest.fixture
def empty_store(tmp_path):
    about = {"card": {"name": "c", "title": "t", "licence": "l"}, "epoch_s": 4.0, "sfreq_hz": 25.0}
    create_store(tmp_path / "s", {**about, "label_names": ["a", "b"], "channels": ["X"]})
    return tmp_path / "s"


def test_a_short_record_that_varies_is_not_flat(empty_store):
    values = np.zeros((1, 100))
    values[0, 1:40] = np.arange(39)  # 0 at samples 0 and 50
    write(empty_store, values, [0])
    assert check_store(Store(empty_store))["problems"] == ["no window has the label b"]


def test_a_store_is_counted_and_its_faults_are_named(empty_store):
    noise = np.random.default_rng(0).integers(-99, 99, (1, 300))
    write(empty_store, noise, [0, 0, -1], bad=[[30, 60]])
    write(empty_store, np.zeros((1, 200)), [0, 0, 0], "p1", "n1")
    values = check_store(Store(empty_store))
    assert values["labels"] == {"a": 5, "b": 0}
    assert (values["records"], values["persons"], values["windows"]) == (2, 2, 6)
    assert values["bad_share"] == pytest.approx(30 / 500)
    assert values["problems"] == [
        "n1: 3 labels do not fit its length",
        "n1: X is flat throughout",
        "no window has the label b",
    ]


def test_an_empty_store_is_a_problem(empty_store):
    assert "the store has no records" in check_store(Store(empty_store))["problems"]


def test_arrays_that_differ_from_those_written_are_a_problem(empty_store):
    noise = np.random.default_rng(0).integers(-99, 99, (1, 200)).astype(np.int16)
    write(empty_store, noise[:, ::-1], [0, 1])
    write(empty_store, noise, [0, 1], "p1", "n1")
    assert check_store(Store(empty_store))["problems"] == []
    noise[0, 77] += 1
    (empty_store / "n1/signal/c/0/0").write_bytes(noise.tobytes())
    (problem,) = check_store(Store(empty_store))["problems"]
    assert problem.startswith("n1: its arrays have changed since they were written")


def test_a_record_that_cannot_be_read_is_a_problem_and_the_others_are_counted(empty_store):
    noise = np.random.default_rng(0).integers(-99, 99, (1, 200))
    write(empty_store, noise, [0, 1])
    write(empty_store, noise, [0, 1], "p1", "n1")
    (empty_store / "n1/zarr.json").write_text("{")
    values = check_store(Store(empty_store))
    assert (values["persons"], values["windows"], len(values["problems"])) == (1, 2, 1)
    assert values["problems"][0].startswith("record n1 of ")


def test_a_leak_needs_a_clean_window(empty_store):
    with pytest.raises(ValueError, match="has no clean window, so no leak can be measured"):
        check_leak(Store(empty_store))
    write(empty_store, np.ones((1, 100)), [0], bad=[[0, 100]])
    with pytest.raises(ValueError, match="has no clean window"):
        check_leak(Store(empty_store))


@pytest.mark.parametrize("leaky", [False, True])
def test_a_mark_at_the_edge_of_windows_is_found(empty_store, leaky):
    generator = np.random.default_rng(0)
    for person in range(6):
        signal = generator.normal(0, 100, (1, 40, 100))
        if leaky:
            signal[:, :, :25] *= 0.3
        write(empty_store, signal.reshape(1, -1), [0] * 40, f"p{person}", f"n{person}")
    leak = check_leak(Store(empty_store))
    assert leak["n_persons"] == 6
    assert leak["leaks"] is leaky
    assert (leak["first"]["auc"] > 0.9) is leaky


def test_epochs_of_too_few_patches_are_refused(empty_store):
    write(empty_store, np.ones((1, 100)), [0])
    with pytest.raises(ValueError, match="fewer than 3 patches"):
        check_leak(Store(empty_store), patch_s=2.0)


def test_info_of_a_store_counts_its_windows(small_store):
    values = info(str(small_store))
    assert values["persons"] == 9
    assert values["hours"] == pytest.approx(9 * 24 * 6 / 3600)
    assert sum(values["windows"].values()) == 9 * 24
    assert values["windows"]["unlabelled"] == 24


def test_info_of_a_recipe_is_its_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # as `make demo` leaves one
    assert info("demo")["name"] == "demo"


def test_info_of_a_card_is_its_values(tmp_path):
    assert info("mitdb")["title"].startswith("MIT-BIH Arrhythmia Database")
    about = "name: mine\ntitle: t\nlicence: l\ncitation: c\nchannels: [C3]\n"
    (tmp_path / "mine.yaml").write_text(about + "recordings: ['*.edf']\n")
    assert info(str(tmp_path / "mine.yaml"))["recordings"] == ["*.edf"]
    with pytest.raises(
        FileNotFoundError,
        match=r"shhs does not exist; .*recipes are .*cards are ade20k_masks, audio_digits",
    ):
        info("shhs")


def test_a_run_without_an_encoder_is_a_problem(tmp_path):
    from biopart.run import Run

    (tmp_path / "recipe.yaml").write_text("name: x\n")
    run = Run(tmp_path)
    run.log({"step": 10, "train/loss": float("nan")})
    problems = check_run(run)["problems"]
    assert problems[0].startswith("the encoder is missing")
    assert problems[1] == "the loss is not a finite number at steps [10]"


def test_a_record_whose_scale_is_a_power_of_ten_from_the_others_is_named(empty_store):
    for number, factor in enumerate((10, 12, 9, 10_000)):
        noise = np.random.default_rng(number).normal(0, factor, (1, 200)).clip(-32_000, 32_000)
        write(empty_store, noise, [0, 1], f"p{number}", f"n{number}")
    (problem,) = check_store(Store(empty_store))["problems"]
    assert problem.startswith("n3: its standard deviation is ")
    assert "about 10^3 times that of the others" in problem
