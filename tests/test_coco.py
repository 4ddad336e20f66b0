import json

import numpy as np
import pytest
from PIL import Image

from biopart.data import SceneSource
from biopart.evaluation.detection import score_detections
from biopart.images.annotations import area, outline_of
from biopart.images.coco import read_coco
from biopart.images.outlines import encode, raster
from biopart.tasks.detect import check_images

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


def written(folder, *, objects, missing=()):
    """Two images of 40 x 60 in a folder, and COCO's JSON of objects in them."""
    images = [{"id": 7 + n, "file_name": f"{n}.jpg", "height": 40, "width": 60} for n in range(2)]
    for image in images:
        if image["file_name"] not in missing:
            Image.new("RGB", (60, 40)).save(folder / image["file_name"])
    categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    rows = [
        {"id": 100 + n, "image_id": 7, "category_id": 9, **one} for n, one in enumerate(objects)
    ]
    given = {"images": images, "annotations": rows, "categories": categories}
    (folder / "a.json").write_text(json.dumps(given))
    return folder / "a.json"


def test_boxes_become_corners_inside_the_image_and_classes_numbers(tmp_path):
    path = written(tmp_path, objects=[{"bbox": [50, -5, 20, 15], "segmentation": [SQUARE]}])
    coco = read_coco(path, tmp_path)
    scene = coco.scenes[0]
    assert coco.classes == {3: "cat", 9: "dog"}
    assert scene.boxes.tolist() == [[50, 0, 60, 10]]
    assert scene.classes.tolist() == [1]
    assert coco.scenes[1].boxes.shape == (0, 4)
    assert coco.left_out == {}


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    objects = [
        {"bbox": [0, 0, 5, 0]},
        {"bbox": [70, 0, 5, 5]},
        {"bbox": [0, 0, 5]},
        {"bbox": [0, 0, 5, 5], "category_id": 1},
        {"bbox": [0, 0, 5, 5], "image_id": 99},
        {"bbox": [1, 2, 5, 5]},
        {"bbox": [0, 0, 5, 5], "image_id": 8},
    ]
    coco = read_coco(written(tmp_path, objects=objects, missing=["1.jpg"]), tmp_path)
    assert coco.left_out == {
        "degenerate boxes": 2,
        "objects without four numbers for a box, or of no class": 2,
        "images whose file is missing": 1,
        "objects of images whose file is missing": 1,
        "objects of images that are not listed": 1,
    }
    assert [scene.boxes.tolist() for scene in coco.scenes] == [[[1, 2, 6, 7]]]


def test_keypoints_come_from_their_own_file_by_id(tmp_path):
    path = written(tmp_path, objects=[{"bbox": [0, 0, 5, 5]}, {"bbox": [0, 0, 6, 6]}])
    given = json.loads(path.read_text())
    given["annotations"] = [{**given["annotations"][1], "keypoints": list(range(51))}]
    points = tmp_path / "points.json"
    points.write_text(json.dumps(given))
    scene = read_coco(path, tmp_path, points).scenes[0]
    assert not scene.keypoints[0].any()
    assert scene.keypoints[1, :2].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_files_that_are_not_cocos_are_refused(tmp_path):
    path = written(tmp_path, objects=[])
    with pytest.raises(
        FileNotFoundError, match=r"b\.json does not exist; unpack COCO's annotations"
    ):
        read_coco(tmp_path / "b.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="has none of the images of"):
        read_coco(path, tmp_path / "elsewhere")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read_coco(path, tmp_path)
    path.write_text('{"images": [], "annotations": [{"id": 1}], "categories": []}')
    with pytest.raises(
        ValueError, match="not a COCO file: its annotations have no bbox, category_id"
    ):
        read_coco(path, tmp_path)


def test_a_name_in_the_json_cannot_leave_the_folder(tmp_path):
    path = written(tmp_path, objects=[])
    given = json.loads(path.read_text())
    given["images"][0]["file_name"] = "../../0.jpg"
    path.write_text(json.dumps(given))
    assert read_coco(path, tmp_path).scenes[0].path == tmp_path / "0.jpg"


def test_the_area_of_an_l_by_hand():
    outline = [[0, 0, 4, 0, 4, 1, 1, 1, 1, 3, 0, 3]]
    assert area(outline, 0.0) == 4 + 2
    assert area({"counts": [], "size": [1, 1]}, 12.5) == 12.5


def test_outlines_of_all_forms_are_drawn():
    drawn = raster([[1, 1, 3, 1, 3, 3, 1, 3]], 4, 5)
    expected = np.zeros((4, 5))
    expected[1:3, 1:3] = 1
    assert drawn.tolist() == expected.tolist()
    runs = {"size": [4, 5], "counts": [5, 2, 2, 2, 9]}  # down the columns
    assert raster(runs, 4, 5).tolist() == expected.tolist()
    assert raster([], 4, 5).sum() == 0


def test_what_was_annotated_scores_1(tmp_path):
    objects = [
        {"bbox": [10, 10, 20, 20], "segmentation": [SQUARE]},
        {"bbox": [0, 0, 8, 8], "segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]], "category_id": 3},
    ]
    coco = read_coco(written(tmp_path, objects=objects), tmp_path)
    scores = score_detections(coco.to_json(), coco.to_detections())
    for kind in ("box", "mask"):
        assert scores[kind]["AP"] == pytest.approx(1.0)
        assert scores[kind]["AR100"] == pytest.approx(1.0)
        assert scores[kind]["AP_large"] is None


def test_half_of_the_objects_found_is_half_of_the_precision(tmp_path):
    # Two dogs, one found exactly, and one detection of nothing, less sure: precision is 1 up to a
    # recall of 1/2 and 0 beyond; COCO reads it at 101 recalls, of which 51 are at most 1/2.
    objects = [{"bbox": [10, 10, 20, 20]}, {"bbox": [35, 10, 20, 20]}]
    coco = read_coco(written(tmp_path, objects=objects), tmp_path)
    found = [
        {"image_id": 7, "category_id": 9, "bbox": [10, 10, 20, 20], "score": 0.9},
        {"image_id": 8, "category_id": 9, "bbox": [0, 0, 9, 9], "score": 0.2},
    ]
    scores = score_detections(coco.to_json(), found)
    assert list(scores) == ["box"]
    assert scores["box"]["AP50"] == pytest.approx(51 / 101)
    assert scores["box"]["AR100"] == pytest.approx(0.5)


def test_a_box_that_is_off_counts_at_low_overlap_only(tmp_path):
    # 20 x 20 against 20 x 14 inside it: IoU 0.7, a hit at 0.50, 0.55, 0.60, 0.65 and 0.70 of ten.
    coco = read_coco(written(tmp_path, objects=[{"bbox": [10, 10, 20, 20]}]), tmp_path)
    found = [{"image_id": 7, "category_id": 9, "bbox": [10, 10, 20, 14], "score": 0.9}]
    scores = score_detections(coco.to_json(), found)["box"]
    assert (scores["AP50"], scores["AP75"]) == (pytest.approx(1), pytest.approx(0))
    assert scores["AP"] == pytest.approx(0.5)


def test_nothing_found_scores_0(tmp_path):
    coco = read_coco(written(tmp_path, objects=[{"bbox": [1, 1, 5, 5]}]), tmp_path)
    assert score_detections(coco.to_json(), [])["box"]["AP"] == 0


def test_real_scenes_are_read_and_score_1_against_themselves(real_data):
    root = real_data / "images_coco"
    for part in ("train2017", "val2017"):
        coco = read_coco(
            root / f"annotations/instances_{part}.json",
            root / part,
            root / f"annotations/person_keypoints_{part}.json",
        )
        assert (len(coco.scenes), len(coco.classes), coco.left_out) == (50, 80, {})
        assert any(scene.keypoints.any() for scene in coco.scenes)
        scores = score_detections(coco.to_json(), coco.to_detections())
        assert scores["box"]["AP"] == pytest.approx(1.0)
        assert scores["mask"]["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("ids", [[0, 1], [5, 5], ["a", "b"], [None, None]])
def test_perfect_detections_score_1_whatever_the_ids_of_the_file(tmp_path, ids):
    box = {"bbox": [10, 10, 20, 20], "segmentation": [SQUARE]}
    rows = [{**box, "id": ids[0]}, {**box, "id": ids[1], "image_id": "8", "category_id": "3"}]
    coco = read_coco(written(tmp_path, objects=rows), tmp_path)
    assert [one["id"] for one in coco.to_json()["annotations"]] == [1, 2]
    scores = score_detections(coco.to_json(), coco.to_detections())
    assert (scores["box"]["AP"], scores["mask"]["AP"]) == (1.0, 1.0)


def test_ids_of_images_and_classes_that_are_texts_are_numbered(tmp_path):
    path = written(tmp_path, objects=[{"bbox": [10, 10, 20, 20], "image_id": "x", "id": 1}])
    given = json.loads(path.read_text())
    for image, name in zip(given["images"], "xy", strict=True):
        image["id"] = name
    for number, one in enumerate(given["categories"]):
        one["id"] = f"c{number}"
    given["annotations"][0]["category_id"] = "c1"
    path.write_text(json.dumps(given))
    coco = read_coco(path, tmp_path)
    assert [scene.number for scene in coco.scenes] == [1, 2]
    assert (coco.classes, coco.scenes[0].classes.tolist()) == ({1: "cat", 2: "dog"}, [1])
    given["images"][1]["id"] = "x"
    path.write_text(json.dumps(given))
    with pytest.raises(ValueError, match=r"several images with the id 'x'"):
        read_coco(path, tmp_path)


def test_the_area_of_the_file_counts_and_else_that_of_the_outline(tmp_path):
    box = {"bbox": [10, 10, 20, 20], "segmentation": [SQUARE]}
    objects = [{**box, "area": 50}, {**box, "area": "60"}, {**box, "area": None}, {**box}]
    coco = read_coco(written(tmp_path, objects=objects), tmp_path)
    assert coco.scenes[0].areas.tolist() == [50, 60, 400, 400]


COMPRESSED = encode(raster([SQUARE], 40, 60))


@pytest.mark.parametrize(
    "outline",
    [
        *([], None, [[10, 10, 30, 30]], [[10, 10, 30, "x", 30, 30]], "none", [[]]),
        *({"size": [20, 60], "counts": [2400]}, {"size": [40, 60], "counts": [5, 6]}),
        *({"size": [40, 60], "counts": "zz"}, {"counts": [2400]}, {"size": [40, 60]}),
        {"size": [40, 60], "counts": COMPRESSED["counts"][:-1].decode()},
    ],
)
def test_an_outline_that_is_none_is_told_and_its_box_stands_for_it(tmp_path, outline):
    objects = [{"bbox": [10, 10, 20, 20], "segmentation": outline}]
    coco = read_coco(written(tmp_path, objects=objects), tmp_path)
    assert coco.left_out == {}
    assert coco.remarks == {"objects without an outline, or with a damaged one": 1}
    assert coco.named == {"objects without an outline, or with a damaged one": ["100"]}
    mask = SceneSource(coco, 64).__getitems__([0]).targets[0]["masks"][0]
    scale = 64 / 60
    assert abs(int(mask.sum()) - (20 * scale) ** 2) < 50
    scores = score_detections(coco.to_json(), coco.to_detections())
    assert (scores["box"]["AP"], scores["mask"]["AP"]) == (1.0, None)


@pytest.mark.parametrize("counts", [COMPRESSED["counts"], COMPRESSED["counts"].decode()])
def test_whole_run_lengths_are_kept(tmp_path, counts):
    given = {"size": [40, 60], "counts": counts}
    assert outline_of(given, (40, 60)) == given
    assert raster(given, 40, 60).sum() == raster([SQUARE], 40, 60).sum() == 400


def test_numbers_that_are_texts_are_read_and_nulls_are_left_out(tmp_path):
    objects = [
        {"bbox": ["1", "2", "5", "5"], "iscrowd": None, "keypoints": None},
        {"bbox": [None, 2, 5, 5]},
        {"bbox": None},
        {"bbox": [1, 2, "wide", 5]},
    ]
    path = written(tmp_path, objects=objects)
    given = json.loads(path.read_text())
    given["images"][0] |= {"height": None, "width": "sixty"}
    path.write_text(json.dumps(given))
    coco = read_coco(path, tmp_path)
    assert (coco.scenes[0].height, coco.scenes[0].width) == (40, 60)
    assert coco.scenes[0].boxes.tolist() == [[1, 2, 6, 7]]
    why = "objects without four numbers for a box, or of no class"
    assert (coco.left_out, coco.named[why]) == ({why: 3}, ["101", "102", "103"])


def test_names_keep_their_folders(tmp_path):
    path = written(tmp_path, objects=[])
    given = json.loads(path.read_text())
    for image, name in zip(given["images"], ("a/1.jpg", "b/1.jpg"), strict=True):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (60, 40)).save(tmp_path / name)
        image["file_name"] = name
    path.write_text(json.dumps(given))
    scenes = read_coco(path, tmp_path).scenes
    assert [scene.path for scene in scenes] == [tmp_path / "a/1.jpg", tmp_path / "b/1.jpg"]
    assert [scene.name for scene in scenes] == ["a/1.jpg", "b/1.jpg"]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((40, 60), 60000, np.uint16), "has more than 8 bits per channel"),
        (np.zeros((20, 60, 3), np.uint8), "is 20 x 60, but its annotations say 40 x 60"),
        (None, "runcated"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_before_anything_is_trained(tmp_path, pixels, reason):
    coco = read_coco(written(tmp_path, objects=[{"bbox": [1, 2, 5, 5]}]), tmp_path)
    path = coco.scenes[0].path
    if pixels is None:
        path.write_bytes(path.read_bytes()[:-300])
    else:
        Image.fromarray(pixels).save(path, "PNG")
    with pytest.raises(ValueError, match=rf"1 images cannot be used: .*0\.jpg.*{reason}"):
        check_images(coco, 2)
