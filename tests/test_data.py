"""Windows of a cohort, the order of an epoch, and splits by persons."""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from biopart.data import (
    Batch,
    Cohort,
    EmbeddedWindows,
    Sampler,
    Source,
    Split,
    WindowSource,
    fold_of,
    open_cohort,
    split_persons,
)
from biopart.data.standard import standardised, statistics_of
from biopart.data.windows import ResidentWindows
from biopart.store import Record, write_record

E = 30  # samples of an epoch of tiny_store


@pytest.fixture
def cohort(tiny_store: Path) -> Cohort:
    return open_cohort(tiny_store)


def everything(source: Any) -> Batch:
    batch: Batch = source.__getitems__(range(len(source)))
    assert batch.values.dtype == torch.int16
    return batch


def stored(cohort: Cohort, key: str, first: int, size: int) -> NDArray[np.int16]:
    """Return stored integers from ``first`` samples after the epoch's start, edges missing."""
    record, _, epoch = key.partition(":")
    signal = np.pad(cohort.signal(record), ((0, 0), (500, 500)), constant_values=-32768)
    start = 500 + int(epoch) * E + first
    return signal[:, start : start + size]


def check_windows(source: Source, first: int, size: int, picked: Sequence[int]) -> None:
    batch = everything(source)
    assert batch.values.shape == (len(source), len(picked), size)
    for key, window in zip(batch.key, batch.values.numpy(), strict=True):
        expected = stored(source.cohort, key, first, size)[list(picked)]
        np.testing.assert_array_equal(window, expected)


def test_items_are_the_epochs_of_all_records_without_bad_ones(cohort: Cohort) -> None:
    source = cohort.source()
    keys = [f"r{record}:{epoch}" for record in range(5) for epoch in range(6)]
    keys.remove("r2:2")  # samples 65 to 70 are bad
    assert source.keys(range(len(source))) == keys
    assert source.persons == ["a"] * 12 + ["b"] * 5 + ["c"] * 6 + ["d"] * 6
    assert source.labels.tolist() == [*range(-1, 5)] * 2 + [
        -1,
        0,
        2,
        3,
        4,
        *range(-1, 5),
        *[-1] * 6,
    ]
    assert (source.shape, source.channels) == ((30,), ("C3", "C4", "O1"))


def test_a_batch_holds_known_integers_labels_persons_and_keys(cohort: Cohort) -> None:
    batch = cohort.source(["O1", "C3"]).__getitems__([13, 0])
    assert batch.values.tolist() == [
        [list(range(10030, 10060)), list(range(8030, 8060))],
        [list(range(2000, 2030)), list(range(30))],
    ]
    assert (batch.label.dtype, batch.label.tolist()) == (torch.int64, [0, -1])
    assert (batch.person, batch.key) == (["b", "a"], ["r2:1", "r0:0"])


@pytest.mark.parametrize("picked", [(0, 1, 2), (2, 0), (1,), (0, 1)])
def test_windows_are_slices_of_the_stored_integers(cohort: Cohort, picked: Sequence[int]) -> None:
    channels = [cohort.channels[index] for index in picked]
    check_windows(cohort.source(channels, keep_bad=True), 0, E, picked)


@pytest.mark.parametrize(
    ("window_s", "first", "size"),
    [(1.0, 10, 10), (0.9, 10, 9), (3.0, 0, 30), (3.1, -1, 31), (9.0, -30, 90), (23.0, -100, 230)],
)
def test_a_window_lies_at_the_centre_of_its_epoch(
    cohort: Cohort, window_s: float, first: int, size: int
) -> None:
    source = cohort.source(window_s=window_s, keep_bad=True)
    check_windows(source, first, size, (0, 1, 2))
    check_windows(cohort.source(["C4"], window_s=window_s, keep_bad=True), first, size, (1,))


def test_decimal_seconds_are_whole_samples_whatever_floats_make_of_them(
    simulated_store: Path,
) -> None:
    assert not (1.1 * 100).is_integer()
    assert open_cohort(simulated_store).source(window_s=1.1).shape == (110,)


def test_what_lies_beyond_the_recording_is_missing(cohort: Cohort) -> None:
    source = cohort.source(["C3"], window_s=5.0, persons=["d"], keep_bad=True)
    batch = source.__getitems__([0, 5])
    assert batch.values[0, 0].tolist() == [-32768] * 10 + list(range(16000, 16040))
    assert batch.values[1, 0].tolist() == list(range(16140, 16187)) + [-32768] * 3


def test_a_short_window_is_drawn_anywhere_inside_its_epoch(cohort: Cohort) -> None:
    source = cohort.source(["C3"], window_s=1.0, persons=["a"])
    offsets = []
    for epoch in range(200):
        source.start_epoch(7, epoch)
        first = everything(source).values[:, 0, 0].numpy()
        offsets.append(first - np.array([4000 * (n // 6) + E * (n % 6) for n in range(12)]))
    assert set(np.concatenate(offsets).tolist()) == set(range(21))
    assert len(np.unique(np.stack(offsets), axis=0)) == 200
    assert np.mean(offsets) == pytest.approx(10, abs=0.5)


def test_the_draw_depends_on_seed_and_epoch_and_item_alone(cohort: Cohort) -> None:
    def draw(seed: int, epoch: int, items: Sequence[int], before: int = 0) -> list[Any]:
        source = cohort.source(window_s=1.0)
        for earlier in range(before):
            source.start_epoch(seed, earlier)
        source.start_epoch(seed, epoch)
        return source.__getitems__(items).values.tolist()

    whole = draw(3, 5, range(29))
    assert draw(3, 5, [20, 4], before=4) == [whole[20], whole[4]]
    assert draw(3, 6, range(29)) != whole
    assert draw(4, 5, range(29)) != whole


@pytest.mark.parametrize("window_s", [3.0, 5.0])
def test_windows_that_fill_their_epoch_are_not_moved(cohort: Cohort, window_s: float) -> None:
    source = cohort.source(window_s=window_s)
    before = everything(source).values
    source.start_epoch(1, 1)
    assert torch.equal(everything(source).values, before)


def test_labelled_items_are_those_with_a_label(cohort: Cohort) -> None:
    source = cohort.source(labelled=True)
    assert source.keys([0, 4, 5]) == ["r0:1", "r0:5", "r1:1"]
    assert source.labels.tolist() == [0, 1, 2, 3, 4] * 2 + [0, 2, 3, 4] + [0, 1, 2, 3, 4]
    assert set(source.persons) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("window_s", "left_out"),
    [
        (1.0, ["r2:2"]),
        (3.0, ["r2:2"]),
        # Longer windows of the first epoch begin before the recording; of the last one those of
        # 7 s end after it.
        (4.1, ["r2:0", "r2:2"]),  # of epoch 1: samples 24 to 64; 65 to 69 are bad
        (4.2, ["r2:0", "r2:1", "r2:2"]),  # 24 to 65
        (7.0, ["r2:0", "r2:1", "r2:2", "r2:5"]),  # of epoch 3: from 70
        (7.1, ["r2:0", "r2:1", "r2:2", "r2:3", "r2:5"]),  # from 69
    ],
)
def test_windows_that_touch_a_bad_stretch_or_leave_the_recording_are_left_out(
    cohort: Cohort, window_s: float, left_out: list[str]
) -> None:
    kept = cohort.source(window_s=window_s, persons=["b"])
    whole = cohort.source(window_s=window_s, persons=["b"], keep_bad=True)
    keys = whole.keys(range(len(whole)))
    assert [key for key in keys if key not in kept.keys(range(len(kept)))] == left_out


def test_only_the_persons_asked_for_have_windows(cohort: Cohort) -> None:
    source = cohort.source(persons=["c", "a"])
    assert source.persons == ["a"] * 12 + ["c"] * 6
    assert source.keys([0, 17]) == ["r0:0", "r3:5"]


def test_context_gives_the_neighbours_in_order(cohort: Cohort) -> None:
    source = cohort.source(["C4", "C3"], context=3, keep_bad=True)
    batch = source.__getitems__([0, 13, 17])  # r0:0, r2:1, r2:5
    assert batch.values.shape == (3, 3, 2, 30)
    for row, key in enumerate(batch.key):
        for place in range(3):
            expected = stored(cohort, key, (place - 1) * E, E)[[1, 0]]
            # r2:2 is bad and r2:6 no whole epoch: left out, like what does not exist.
            if (key, place) in (("r2:1", 2), ("r2:5", 2)):
                expected = np.full_like(expected, -32768)
            np.testing.assert_array_equal(batch.values[row, place], expected)
    assert (batch.values[0, 0] == -32768).all()
    assert batch.label.tolist() == [-1, 0, 4]


def test_context_says_which_neighbours_are_there_and_what_they_are(cohort: Cohort) -> None:
    source = cohort.source(context=3, keep_bad=True)
    batch = source.__getitems__([0, 13, 17])  # r0:0, r2:1, r2:5; labels -1 W N1 N2 N3 R
    assert batch.context is not None
    present = [[False, True, True], [True, True, False], [True, True, False]]  # r2:2 is bad
    assert batch.context.present.tolist() == present
    assert batch.context.label.tolist() == [[-1, -1, 0], [-1, 0, -1], [3, 4, -1]]


def test_embedded_windows_stand_where_the_windows_stood(cohort: Cohort) -> None:
    everything = cohort.source(keep_bad=True)
    items = cohort.source(labelled=True, context=3, keep_bad=True)
    assert isinstance(everything, WindowSource)
    assert isinstance(items, WindowSource)
    rows = np.arange(len(everything), dtype=np.float32)
    embedded = EmbeddedWindows(items, everything, np.stack([rows, -rows], 1))
    batch = embedded.__getitems__([0, 4, 10])  # r0:1, r0:5, r2:1 (r1 has 5 labelled ones too)
    assert batch.key == ["r0:1", "r0:5", "r2:1"]
    assert batch.values[..., 0].tolist() == [[0, 1, 2], [4, 5, 0], [12, 13, 0]]
    assert batch.values[..., 1].tolist() == [[0, -1, -2], [-4, -5, 0], [-12, -13, 0]]
    assert batch.context is not None
    assert batch.context.present.tolist() == [[True] * 3, [True, True, False], [True, True, False]]


def test_a_bad_window_is_no_context_of_its_neighbours(cohort: Cohort) -> None:
    source = cohort.source(context=3, keep_bad=True)
    assert isinstance(source, WindowSource)
    assert source.keys([14]) == ["r2:2"]  # its samples 65 to 70 are bad
    present = source.around(np.array([13, 14, 15])).present
    assert present.int().tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]


def test_an_even_context_has_one_more_window_after_than_before(cohort: Cohort) -> None:
    batch = cohort.source(["C3"], context=4).__getitems__([1])
    assert batch.values[0, :, 0, 0].tolist() == [0, 30, 60, 90]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ["C3", "F3"]}, r"channels F3 are not in .*tiny\.zarr, which has C3, C4, O1"),
        ({"channels": []}, r"channels \(none\) are not in"),
        ({"window_s": 0.25}, "window_s 0.25 at 10 Hz is not a whole number of samples"),
        ({"window_s": 0.0}, "window_s 0.0 at 10 Hz is not a whole number of samples"),
        ({"window_s": -1.0}, "window_s -1.0 at 10 Hz"),
        ({"window_s": 1e4}, "a window of 10000 s is longer than every recording .*at most"),
        ({"context": 0}, "context is 0; give 1 or the number"),
        ({"persons": ["a", "z"]}, "has no records of z"),
        ({"persons": ["d"], "labelled": True}, "has no usable labelled windows"),
        ({"persons": []}, "has no usable windows"),
    ],
)
def test_what_a_cohort_cannot_give_is_refused(
    cohort: Cohort, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cohort.source(**options)


def test_a_cohort_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="biopart prepare CARD"):
        open_cohort(tmp_path / "none.zarr")


def test_both_layouts_give_the_same_windows(
    cohort: Cohort, tiny_store: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_store, tmp_path / "s.zarr")
    for name in cohort:
        record = Record(
            np.array(cohort.signal(name)),
            cohort.scale(name),
            cohort.label(name),
            cohort.bad(name),
            cohort.about(name),
        )
        write_record(tmp_path / "s.zarr", name, record, layout="archive")
    archive = open_cohort(tmp_path / "s.zarr").source(["O1", "C3"], window_s=5.0)
    whole = everything(cohort.source(["O1", "C3"], window_s=5.0))
    assert torch.equal(everything(archive).values, whole.values)


def test_more_records_than_files_that_may_be_open_can_be_read(
    tiny_store: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_store, tmp_path / "s.zarr")
    for number in range(70):
        shutil.copytree(tiny_store / "r0", tmp_path / "s.zarr" / f"x{number}")
    source = open_cohort(tmp_path / "s.zarr").source()
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc").is_dir() else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 30, hard))
    try:
        batch = everything(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(batch.values) == 29 + 70 * 6


def test_reading_does_not_change_the_store(cohort: Cohort, tiny_store: Path) -> None:
    source = cohort.source()
    chunk = tiny_store / "r0/signal/c/0/0"
    before = chunk.read_bytes()
    source.__getitems__([0]).values[:] = 1
    source.signal(0)[:] = 1
    assert chunk.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": ["O1", "C3"]},
        {"window_s": 1.0},
        {"window_s": 5.0},
        {"window_s": 23.0, "keep_bad": True},
        {"persons": ["c", "a"], "labelled": True},
    ],
)
def test_a_resident_source_gives_identical_batches(cohort: Cohort, options: dict[str, Any]) -> None:
    mapped, source = cohort.source(**options), cohort.source(**options)
    resident = ResidentWindows(source, "cpu")
    assert len(resident) == len(mapped)
    for epoch in range(3):
        items = np.random.default_rng(epoch).permutation(len(mapped))
        one, two = mapped.__getitems__(items), resident.__getitems__(items)
        assert torch.equal(one.values, two.values)
        assert two.values.is_contiguous()
        assert torch.equal(one.label, two.label)
        assert (one.person, one.key) == (two.person, two.key)
        mapped.start_epoch(2, epoch)
        resident.start_epoch(2, epoch)


def test_a_recording_is_normalised_as_a_whole(cohort: Cohort) -> None:
    options: dict[str, Any] = {"channels": ["O1", "C3"], "keep_bad": True, "by_recording": True}
    source = cohort.source(**options)
    batch = source.__getitems__([1, 14])  # r0:1 and r2:2, of which samples 65 to 70 are missing
    # r0 counts up from 0 to 186: median 93, quartiles 46.5 and 139.5.
    deviation = 93 / 1.349
    expected = [round((t - 93) * 1000 / deviation) for t in range(30, 60)]
    assert batch.values[0].tolist() == [expected, expected]
    rest = np.delete(np.arange(187), np.s_[65:70])
    low, median, high = np.percentile(rest, (25, 50, 75))
    expected = [round((t - median) * 1349 / (high - low)) for t in range(60, 90)]
    expected[5:10] = [-32768] * 5
    assert batch.values[1].tolist() == [expected, expected]
    assert source.scales(np.array([1]))[0] == pytest.approx([0.5 * deviation / 1000] * 2)
    resident = source.resident("cpu")
    assert torch.equal(everything(resident).values, everything(source).values)
    around = cohort.source(**options, context=3).__getitems__([1])
    assert torch.equal(around.values[:, 1], batch.values[:1])
    assert torch.equal(around.values[:, 2], source.__getitems__([2]).values)


def test_a_flat_channel_is_normalised_by_its_deviation_and_a_missing_one_stays_missing() -> None:
    spiky = np.zeros((3, 100), np.int16)
    spiky[0, 0], spiky[2] = 100, -32768
    assert statistics_of(spiky)[:, 1].tolist() == pytest.approx([99**0.5, 1, 1])
    found = standardised(spiky, statistics_of(spiky))
    assert found[0, :2].tolist() == [round(100 * 1000 / 99**0.5), 0]
    assert set(found[2].tolist()) == {-32768}


def test_a_resident_source_gives_no_context(cohort: Cohort) -> None:
    with pytest.raises(ValueError, match="give context=1"):
        ResidentWindows(cohort.source(context=3), "cpu")


def test_a_batch_moves_with_its_label(cohort: Cohort) -> None:
    moved = cohort.source().__getitems__([1]).to("meta")
    assert (moved.values.device.type, moved.label.device.type) == ("meta", "meta")
    assert moved.key == ["r0:1"]


def test_scales_are_of_the_items_and_channels_asked_for(cohort: Cohort) -> None:
    scales = cohort.source(["O1", "C3"]).scales(np.array([0, 13, 1]))
    assert scales.dtype == np.float32
    assert scales.tolist() == [[0.5, 0.5]] * 3


@pytest.mark.parametrize(("items", "batch", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4])])
def test_an_epoch_has_every_item_once(items: int, batch: int, sizes: list[int]) -> None:
    sampler = Sampler(items, batch, seed=3)
    batches = list(sampler.batches(0))
    assert [len(part) for part in batches] == sizes
    assert len(sampler) == len(sizes)
    assert sorted(np.concatenate(batches).tolist()) == list(range(items))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, batch: int = 10) -> Any:
        return np.concatenate(list(Sampler(100, batch, seed).batches(epoch))).tolist()

    assert order(0, 4) == order(0, 4, batch=33)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


EVERYONE = [f"p{number:02d}" for number in range(30)]
LABELLED = EVERYONE[:20]


def make_split(**counts: Any) -> Split:
    return split_persons(EVERYONE, LABELLED, **{"test": 5, "validation": 4, **counts})


def test_test_and_validation_persons_are_labelled_and_outside_everything_else() -> None:
    for seed in range(5):
        split = make_split(seed=seed)
        held = {*split.test, *split.validation}
        assert (len(split.test), len(split.validation), len(held)) == (5, 4, 9)
        assert held < set(LABELLED)
        assert set(split.pretrain) == set(EVERYONE) - held
        assert set(split.finetune) == set(LABELLED) - held
        assert (len(split.pretrain), len(split.finetune), split.notes) == (21, 11, ())


def test_test_persons_depend_on_the_split_seed_alone() -> None:
    test = make_split(seed=1).test
    other = split_persons(EVERYONE[::-1], LABELLED[::-1], test=5, validation=9, pretrain=3, seed=1)
    assert other.test == test
    assert make_split(seed=1, validation=0, finetune=2).test == test
    assert len({make_split(seed=seed).test for seed in range(9)}) == 9


def test_a_person_with_two_nights_is_one_person() -> None:
    once = make_split()
    twice = split_persons(EVERYONE * 2, LABELLED * 2, test=5, validation=4)
    assert twice == once


def test_unlabelled_persons_are_for_pretraining_only() -> None:
    split = make_split()
    unlabelled = set(EVERYONE) - set(LABELLED)
    assert unlabelled < set(split.pretrain)
    assert not unlabelled & {*split.test, *split.validation, *split.finetune}


def test_smaller_counts_are_among_larger_ones() -> None:
    small, large = make_split(pretrain=4, finetune=3), make_split(pretrain=9, finetune=7)
    assert (len(small.pretrain), len(small.finetune)) == (4, 3)
    assert set(small.pretrain) < set(large.pretrain) < set(make_split().pretrain)
    assert set(small.finetune) < set(large.finetune)


def test_counts_above_what_is_there_take_it_and_say_so() -> None:
    split = make_split(pretrain=1653, finetune=12)
    assert (len(split.pretrain), len(split.finetune)) == (21, 11)
    assert split.notes == (
        "1653 pretrain persons requested, but only 21 available",
        "12 finetune persons requested, but only 11 available",
    )
    assert make_split(pretrain=21, finetune=11).notes == ()


@pytest.mark.parametrize(("test", "validation"), [(20, 0), (16, 4), (200, 100), (0, 4)])
def test_a_split_that_leaves_nobody_to_train_or_test_on_is_refused(
    test: int, validation: int
) -> None:
    with pytest.raises(ValueError, match=r"of 20 labelled persons .*lower split\.test_persons or"):
        make_split(test=test, validation=validation)


def test_subsets_are_nested_for_a_seed_and_differ_between_seeds() -> None:
    split = make_split()
    subsets = [split.subset(count, seed=3) for count in range(1, 12)]
    for number, (small, large) in enumerate(pairwise(subsets), start=1):
        assert len(small) == len(set(small)) == number
        assert set(small) < set(large)
    assert set(subsets[-1]) == set(split.finetune)
    assert len({split.subset(4, seed) for seed in range(9)}) == 9


def test_more_subjects_than_are_labelled_take_all_and_say_so() -> None:
    split = make_split()
    assert set(split.subset(12, seed=0)) == set(split.finetune)
    said = "12 subjects requested, but 11 labelled persons remain beside test and validation"
    assert split.shortage(12) == [f"{said}; all are used"]
    assert split.shortage(11) == []
    with pytest.raises(ValueError, match="subjects is 0; give at least 1"):
        split.subset(0, seed=0)


def test_folds_divide_the_persons_and_differ_by_one_at_most():
    names = [f"p{number}" for number in range(11)]
    folds = [fold_of(names, 4, fold, seed=3) for fold in range(4)]
    assert sorted(name for fold in folds for name in fold) == sorted(names)
    assert sorted(map(len, folds)) == [2, 3, 3, 3]
    assert folds != [fold_of(names, 4, fold, seed=4) for fold in range(4)]
    with pytest.raises(ValueError, match="11 labelled persons cannot be divided into 12 folds"):
        fold_of(names, 12, 0, seed=3)
