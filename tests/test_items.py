"""Objects, parts and events that frozen encoders are asked about."""

import numpy as np
import pytest
import torch
from PIL import Image

from biopart.codes import MISSING
from biopart.data import open_cohort
from biopart.data.items import EventItems, SourceItems, Tiles, drawn
from biopart.data.pictures import (
    masked_images,
    object_crops,
    painted,
    part_crops,
    person_crops,
)
from biopart.grid import Boxes, grid_boxes
from biopart.images.annotated import Annotated, crop, keypoint_box, read_annotated
from biopart.images.coco import Scene
from biopart.probing.tokens import shares
from biopart.store.contents import Record
from biopart.store.parts_card import PartsCard, is_parts_card, load_parts_card
from biopart.store.writing import create_store, finish_store, write_record


@pytest.fixture
def cohort(tmp_path):
    """Two persons with 40 and 7 samples at 1 Hz, whose values are their own numbers."""
    card = {"name": "n", "labels": {"kind": "none"}}
    attributes = {"card": card, "epoch_s": 4.0, "sfreq_hz": 1.0, "label_names": []}
    attributes |= {"channels": ["a"], "event_names": ["spindle", "K"]}
    create_store(tmp_path / "s", attributes)
    for name, length, events in (
        ("one", 40, [[0, 3, 0], [9, 15, 1], [14, 17, 0], [37, 40, 1]]),
        ("two", 7, [[2, 5, 0]]),
    ):
        signal = np.arange(length, dtype=np.int16)[None]
        label = np.full(length // 4, -1, np.int8)
        bad = np.zeros((0, 2), np.int64)
        about = {"person": name}
        record = Record(signal, np.ones(1), label, bad, about, "uV", np.array(events))
        write_record(tmp_path / "s", name, record)
    finish_store(tmp_path / "s")
    return open_cohort(tmp_path / "s")


def test_events_lie_in_the_middle_of_their_window_inside_the_recording(cohort):
    source = cohort.source(window_s=10.0, persons=["one"], keep_bad=True)
    items = EventItems(source)
    every = np.arange(len(items))
    values, boxes = items.values(every), items.boxes(every)
    assert items.labels.tolist() == [0, 1, 0, 1]
    assert items.units == ["one"] * 4
    assert values[:, 0, 0].tolist() == [0, 7, 10, 30]  # at the ends moved inside
    assert boxes.start[:, 0].tolist() == [0, 2, 4, 7]
    assert boxes.size[:, 0].tolist() == [3, 6, 3, 3]
    for row in range(4):
        first = values[row, 0, boxes.start[row, 0]]
        assert int(first) == cohort.events("one")[row, 0]


def test_an_event_longer_than_its_window_fills_it_and_short_recordings_are_padded(cohort):
    long = EventItems(cohort.source(window_s=4.0, persons=["one"], keep_bad=True))
    boxes = long.boxes(np.array([1]))
    assert (boxes.start.item(), boxes.size.item()) == (0, 4)
    short = EventItems(cohort.source(window_s=10.0, persons=["two"], keep_bad=True))
    assert short.values(np.array([0]))[0, 0].tolist() == [*range(7), *[MISSING] * 3]


def test_tiles_cover_a_recording_and_put_classes_together_again(cohort):
    tiles = Tiles(cohort.source(window_s=16.0, persons=["one"], keep_bad=True))
    assert tiles.first.tolist() == [0, 16, 24]  # the last one is moved inside
    assert tiles.names == ("no event", "spindle", "K")
    targets = tiles.targets(np.arange(3)).numpy()
    truth = np.zeros(40, int)
    for start, stop, code in cohort.events("one").tolist():
        truth[start:stop] = 1 + code
    np.testing.assert_array_equal(targets[0], truth[:16])
    assert (targets[2, :8] == -1).all()  # the window before has them already
    np.testing.assert_array_equal(targets[2, 8:], truth[32:])
    assert (targets >= 0).sum() == 40
    whole = tiles.along(np.where(targets < 0, 9, targets))
    np.testing.assert_array_equal(next(iter(whole.values())), truth)


def test_a_recording_shorter_than_its_window_is_one_tile_unknown_beyond_its_end(cohort):
    tiles = Tiles(cohort.source(window_s=16.0, persons=["two"], keep_bad=True))
    targets = tiles.targets(np.arange(1))[0].tolist()
    assert targets == [0, 0, 1, 1, 1, 0, 0, *[-1] * 9]
    marked = tiles.marked(np.ones((1, 16), int))[0]
    assert (marked.person, len(marked.predicted)) == ("two", 7)


def test_items_of_a_source_are_its_own(cohort):
    source = cohort.source(window_s=4.0, persons=["one"], keep_bad=True)
    items = SourceItems(source)
    assert (len(items), items.fill_grid) == (10, True)
    boxes = items.boxes(np.arange(2))
    assert (boxes.start.tolist(), boxes.size.tolist()) == ([[0], [0]], [[4], [4]])
    assert torch.equal(items.values(np.array([2]))[0, 0], torch.arange(8, 12).short())
    assert items.key != SourceItems(source.of_table(source._table[:, :9])).key


def test_items_of_other_channels_have_other_keys(tmp_path):
    attributes = {"card": {"name": "n"}, "epoch_s": 4.0, "sfreq_hz": 1.0, "label_names": ["x"]}
    create_store(tmp_path / "s", {**attributes, "channels": ["a", "b"], "event_names": ["e"]})
    record = Record(
        np.arange(16, dtype=np.int16).reshape(2, 8),
        np.ones(2),
        np.zeros(2, np.int8),
        np.zeros((0, 2), np.int64),
        {"person": "p"},
        "uV",
        np.array([[1, 3, 0]]),
    )
    write_record(tmp_path / "s", "r", record)
    finish_store(tmp_path / "s")
    sources = [open_cohort(tmp_path / "s").source(channels=[name]) for name in "ab"]
    for kind in (SourceItems, EventItems, Tiles):
        assert len({kind(source).key for source in sources}) == 2


def test_a_store_without_events_says_so(cohort):
    cohort.attributes.pop("event_names")
    with pytest.raises(ValueError, match="has no events; state them in its card"):
        EventItems(cohort.source(window_s=4.0, keep_bad=True))


def test_shares_of_parts_have_the_sum_one_on_any_axes():
    for axes in (1, 2, 3):
        grid = grid_boxes((8,) * axes, (4,) * axes)
        part = Boxes(torch.full((1, axes), 3), torch.full((1, axes), 4))
        found = shares(part, grid)
        expected = torch.tensor([0.25, 0.75])
        for _ in range(axes - 1):
            expected = torch.outer(expected, torch.tensor([0.25, 0.75])).flatten()
        torch.testing.assert_close(found[0], expected)


def test_few_items_keep_every_class():
    labels = np.array([0] * 90 + [1] * 10)
    kept = drawn(labels, 20, 0)
    assert np.bincount(labels[kept]).tolist() == [18, 2]
    assert drawn(labels, None, 0).tolist() == list(range(100))


def scene(tmp_path, keypoints=(), boxes=((0, 0, 4, 4),), size=(10, 20), **others):
    path = tmp_path / "a.png"
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    Image.fromarray(pixels).save(path)
    count = len(boxes)
    points = np.zeros((count, 17, 3), np.float32)
    for number, row in enumerate(keypoints):
        points[number, : len(row)] = row
    about = {
        "classes": np.arange(count),
        "outlines": (None,) * count,
        "crowd": np.zeros(count, bool),
        "areas": np.array([(b[2] - b[0]) * (b[3] - b[1]) for b in boxes], float),
    }
    about |= others
    found = np.array(boxes, np.float32)
    return Scene(1, path, "a.png", *size, boxes=found, keypoints=points, **about)


def test_a_crop_is_black_outside_and_nothing_else_is_mixed_in(tmp_path):
    image = Image.fromarray(np.full((4, 4, 3), 200, np.uint8))
    cut = crop(image, (-2, 0, 2, 4), (4, 4))
    assert cut.shape == (3, 4, 4)
    assert not cut[:, :, :2].any()
    assert (cut[:, :, 2:] == 200).all()


def test_a_part_is_as_large_as_the_distance_to_the_nearest_keypoint():
    points = np.array([[10.0, 10.0], [16.0, 18.0], [11.0, 10.0]])
    shown = np.array([True, True, False])
    assert keypoint_box(points, 0, shown) == (5, 5, 15, 15)  # 10 pixels to the second
    assert keypoint_box(points, 0, np.array([True, False, False])) is None
    near = np.array([[1.0, 1.0], [1.2, 1.0]])
    assert keypoint_box(near, 0, np.array([True, True])) is None


def test_keypoints_outside_or_alone_are_counted(tmp_path):
    inside, outside = [5, 5, 2], [25, 5, 2]
    people = [[inside, [8, 9, 2], outside], [[2, 2, 1]]]
    one = scene(tmp_path, people, boxes=((0, 0, 20, 10), (0, 0, 3, 3)))
    found = Annotated((one,), ("a", "b"), tuple(f"p{k}" for k in range(17)))
    crops, left_out = part_crops(found, ["p0", "p2"], (4, 4))
    assert crops.table.tolist() == [[0, 2, 2, 7, 7, 0]]  # of 3, 4: a distance of 5
    assert left_out == {
        "keypoints outside their image": 1,
        "keypoints without a second one at least one pixel away": 1,
    }
    persons = person_crops(found, (8, 8))
    assert persons.objects.tolist() == [[0, 0], [0, 1]]
    places, shown = persons.places(np.array([0]))
    assert shown[0, :3].tolist() == [True, True, True]
    back = persons.in_image(np.array([0]), places.numpy())
    np.testing.assert_allclose(back[0, :2], [[5, 5], [8, 9]], atol=1e-4)


def test_objects_are_cut_at_their_boxes_without_crowds(tmp_path):
    one = scene(tmp_path, boxes=((0, 0, 4, 4), (2, 2, 9, 9)), crowd=np.array([False, True]))
    crops = object_crops(Annotated((one,), ("a", "b")), (4, 4))
    assert crops.table.tolist() == [[0, 0, 0, 4, 4, 0]]
    pixels = np.asarray(Image.open(one.path)).transpose(2, 0, 1)
    assert torch.equal(crops.values(np.array([0]))[0], torch.from_numpy(pixels[:, :4, :4].copy()))


def test_smaller_objects_are_painted_over_larger_ones_and_crowds_are_unknown(tmp_path):
    pytest.importorskip("faster_coco_eval")
    boxes = ((0, 0, 2, 2), (0, 0, 6, 6), (10, 0, 20, 10))
    one = scene(tmp_path, boxes=boxes, crowd=np.array([False, False, True]))
    codes = painted(one, (10, 20))
    assert codes[1, 1] == 1
    assert codes[4, 4] == 2
    assert codes[8, 8] == 0
    assert (codes[:, 10:] == -1).all()
    images = masked_images(Annotated((one,), ("a", "b", "c")), (5, 10))
    assert images.names == ("background", "a", "b", "c")
    assert images.targets(np.array([0]))[0, 0, :4].tolist() == [1, 2, 2, 0]
    np.testing.assert_array_equal(images.whole(0), codes)


def masks_card(**values):
    files = {"images": "i", "masks": "m"}
    about = {"name": "n", "title": "t", "licence": "l", "citation": "c", "parts": "masks"}
    about |= {"train": files, "test": files, "first": 1, "unknown": [0], "classes": ["x", "y"]}
    return PartsCard.model_validate({**about, **values})


def test_masks_are_read_by_their_values_and_strange_ones_are_named(tmp_path):
    for folder in ("i", "m"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (4, 2)).save(tmp_path / f"i/{name}.jpg")
    mask = np.array([[0, 1, 2, 2], [1, 1, 2, 0]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "m/a.png")
    train, _ = read_annotated(masks_card(), tmp_path)
    assert train.left_out == {"images without a mask": 1}
    assert train.mask(0, (2, 4)).tolist() == [[-1, 0, 1, 1], [0, 0, 1, -1]]
    Image.fromarray(mask + 1).save(tmp_path / "m/a.png")
    with pytest.raises(ValueError, match="has the value 3, which is neither one of the 2 classes"):
        train.mask(0, (2, 4))
    with pytest.raises(FileNotFoundError, match="does not exist; unpack t there"):
        read_annotated(masks_card(train={"images": "no", "masks": "m"}), tmp_path)


def test_a_mask_belongs_to_the_image_in_the_same_place(tmp_path):
    for folder in ("i/a", "i/b", "m/a", "m/b"):
        (tmp_path / folder).mkdir(parents=True)
    for value, folder in ((1, "a"), (2, "b")):
        Image.new("RGB", (4, 2)).save(tmp_path / f"i/{folder}/x.jpg")
        Image.new("L", (4, 2), value).save(tmp_path / f"m/{folder}/x.png")
    train, _ = read_annotated(masks_card(), tmp_path)
    assert [int(train.mask(number, (1, 1))[0, 0]) for number in (0, 1)] == [0, 1]


def test_training_and_test_images_of_other_classes_are_refused(tmp_path):
    import json

    for part, classes in (("train", ["cat", "dog"]), ("val", ["dog", "cow"])):
        (tmp_path / part).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / part / "a.jpg")
        given = {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
        }
        (tmp_path / f"{part}.json").write_text(json.dumps(given))
    parts = {
        key: {"images": part, "objects": f"{part}.json"}
        for key, part in (("train", "train"), ("test", "val"))
    }
    about = {"name": "n", "title": "t", "licence": "l", "citation": "c", "parts": "coco"}
    card = PartsCard.model_validate({**about, **parts})
    with pytest.raises(ValueError, match="training and the test images of n have other classes"):
        read_annotated(card, tmp_path)


def test_names_of_classes_come_from_the_last_column_of_a_table(tmp_path):
    for folder in ("i", "m"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (4, 2)).save(tmp_path / "i/a.jpg")
    Image.new("L", (4, 2), 1).save(tmp_path / "m/a.png")
    (tmp_path / "names.txt").write_text(
        "Idx\tRatio\tName\n1\t0.2\twall\n2\t0.1\tbuilding, edifice\n"
    )
    card = masks_card(classes=[], classes_file="names.txt")
    assert read_annotated(card, tmp_path)[0].mask_classes == ("wall", "building")


def cub(folder):
    """Write two birds in the layout of CUB-200-2011."""
    (folder / "parts").mkdir(parents=True)
    for name in ("images/001.Albatross", "images/002.Bunting"):
        (folder / name).mkdir(parents=True)
    names = {1: "001.Albatross/a.jpg", 2: "002.Bunting/b.jpg"}
    for name in names.values():
        Image.new("RGB", (30, 20)).save(folder / "images" / name)
    texts = {
        "images.txt": "".join(f"{k} {name}\n" for k, name in names.items()),
        "classes.txt": "1 001.Albatross\n2 002.Bunting\n",
        "image_class_labels.txt": "1 1\n2 2\n",
        "train_test_split.txt": "1 1\n2 0\n",
        "bounding_boxes.txt": "1 2.0 3.0 10.0 12.0\n2 0.0 0.0 30.0 20.0\n",
        "parts/parts.txt": "1 back\n2 right eye\n",
        "parts/part_locs.txt": "1 1 5.0 6.0 1\n1 2 8.0 10.0 1\n2 1 0.0 0.0 0\n2 2 9.0 9.0 1\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def test_birds_are_read_in_their_published_layout(tmp_path):
    card = load_parts_card("cub_parts", ["points=[right eye]"])
    train, test = read_annotated(card, cub(tmp_path / "CUB"))
    assert (train.classes, train.points) == (
        ("001.Albatross", "002.Bunting"),
        ("back", "right eye"),
    )
    assert [s.name for s in train.scenes + test.scenes] == [
        "001.Albatross/a.jpg",
        "002.Bunting/b.jpg",
    ]
    assert train.scenes[0].boxes.tolist() == [[2, 3, 12, 15]]
    crops, left_out = part_crops(train, card.points, (4, 4))
    assert crops.table.tolist() == [[0, 6, 8, 11, 13, 0]]  # of 3, 4: a side of 5
    assert left_out == {}
    _, alone = part_crops(test, card.points, (4, 4))
    assert alone == {"keypoints without a second one at least one pixel away": 1}
    with pytest.raises(ValueError, match="compares 'tail', but the keypoints are back, right eye"):
        read_annotated(load_parts_card("cub_parts", ["points=[tail]"]), tmp_path / "CUB")
    (tmp_path / "CUB/bounding_boxes.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="does not have 5 numbers in every line"):
        read_annotated(card, tmp_path / "CUB")
    (tmp_path / "CUB/parts/part_locs.txt").write_text("1 0 5.0 6.0 1\n")
    (tmp_path / "CUB/bounding_boxes.txt").write_text("1 2 3 4 5\n2 0 0 30 20\n")
    with pytest.raises(ValueError, match=r"has the number 0, which is not among parts\.txt"):
        read_annotated(card, tmp_path / "CUB")


def test_parts_of_pascal_are_read_from_their_matlab_files(tmp_path):
    from scipy.io import savemat

    for folder in ("JPEGImages", "Annotations_Part", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    whole = np.zeros((4, 6), np.uint8)
    whole[1:, 1:5] = 1
    head = np.zeros((4, 6), np.uint8)
    head[1, 1:3] = 1
    horse = {"class": "horse", "class_ind": 13, "mask": whole}
    horse["parts"] = np.array([(("head"), head)], dtype=[("part_name", "O"), ("mask", "O")])
    cup = {"class": "cup", "class_ind": 5, "mask": np.eye(4, 6, dtype=np.uint8), "parts": []}
    for name, objects, part in (("a", [horse], "train"), ("b", [horse, cup], "val")):
        Image.new("RGB", (6, 4)).save(tmp_path / f"JPEGImages/{name}.jpg")
        savemat(tmp_path / f"Annotations_Part/{name}.mat", {"anno": {"objects": objects}})
        (tmp_path / f"ImageSets/Main/{part}.txt").write_text(f"{name} 1\n")
    Image.new("RGB", (6, 4)).save(tmp_path / "JPEGImages/unlisted.jpg")
    train, test = read_annotated(load_parts_card("pascal_parts"), tmp_path)
    assert train.mask_classes == ("background", "cup", "horse", "horse head")
    assert [len(part.scenes) for part in (train, test)] == [1, 1]
    assert train.mask(0, (4, 6)).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 3, 3, 2, 2, 0],
        [0, 2, 2, 2, 2, 0],
        [0, 2, 2, 2, 2, 0],
    ]
    assert test.mask(0, (4, 6))[0, 0] == 1
    (tmp_path / "Annotations_Part/a.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a file of Pascal-Part"):
        read_annotated(load_parts_card("pascal_parts"), tmp_path)


def test_shipped_cards_of_annotated_images_load_and_are_not_prepared():
    from biopart.store import load_card

    for name in (
        "coco_parts",
        "cub_parts",
        "ade20k_masks",
        "lip_masks",
        "davis_video",
        "pascal_parts",
    ):
        assert is_parts_card(name)
        assert load_parts_card(name).name == name
        with pytest.raises(ValueError, match="is a card of annotated images, which are used"):
            load_card(name)
    assert not is_parts_card("mitdb")
    assert not is_parts_card("imagenet")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": None}, "masks needs train and test"),
        ({"train": {"images": "i"}}, "train lacks masks, which masks needs"),
        ({"classes": []}, "names the classes of masks, and only them"),
        ({"test": {"images": "../i", "masks": "m"}}, "give a place below the raw folder"),
        ({"parts": "cub"}, "cub has its own train images"),
        ({"classes": [], "classes_file": "../a"}, "give a file below the raw folder"),
    ],
)
def test_cards_of_annotated_images_that_contradict_themselves_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        masks_card(**values)
