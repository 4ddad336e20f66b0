"""Who has been met: spellings, data sets, recordings under two names, every door of a leak."""

import json
import shutil

import numpy as np
import pytest
import torch

from biopart.experiment.experiment import open_experiment
from biopart.experiment.plan import Plan
from biopart.experiment.stored import stored_recipe
from biopart.nn import About, Model, ViT
from biopart.nn.weights import load_tensors
from biopart.recipe import resolve
from biopart.run import Run
from biopart.store import Images, Record, Store, create_store, write_record
from biopart.store.image_card import ImageCard
from biopart.store.persons import doubtful_persons
from biopart.store.seen import MOST_NAMES, Group, Listing, Seen, dataset_of, digest_of, hashes_of
from biopart.store.spelling import canonical
from biopart.verbs.check import check_store
from biopart.verbs.evaluate import evaluate
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain
from biopart.verbs.probe import probe


def copied(source, target, renamed, *, dataset=None, keep=None):
    """Copy a store with persons renamed, and perhaps as of another data set."""
    store = Store(source)
    attributes = dict(store.attributes)
    if dataset is not None:
        attributes["card"] = {**attributes["card"], "name": dataset}
    create_store(target, {k: v for k, v in attributes.items() if k != "format_version"})
    for record in keep or store.records:
        person = store.persons[record]
        arrays = store.signal(record), store.scale(record), store.label(record), store.bad(record)
        about = {"person": renamed.get(person, person)}
        write_record(target, record, Record(*arrays, about))
    return target


@pytest.fixture
def recipe(small_recipe):
    return resolve(small_recipe, [], "small")


@pytest.fixture
def run(recipe, tmp_path):
    return pretrain(recipe, out=tmp_path / "R", latest=False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("tr3-0005", "TR03-0005", True),
        ("tr03_0005", "tr03 0005", True),
        ("tr03-0005", "tr03-0050", False),
        ("S1-23", "S12-3", False),
    ],
)
def test_spellings_of_one_person_are_one(one, other, same):
    assert (canonical(one) == canonical(other)) is same


def test_persons_are_known_in_any_spelling_of_their_data_set_alone():
    seen = Seen({"a": Group(hashes_of(["tr3-5"])), "b": Group(hashes_of(["p-1"]))})
    assert seen.knows("a", "TR03-0005")
    assert not seen.knows("a", "p-1")
    assert seen.knows("b", "P_01")
    assert not seen.knows("c", "tr3-0005")


def test_what_was_seen_is_joined_by_data_set_and_survives_being_written(recipe):
    cohort = open_experiment(recipe).cohort
    one, two = Seen.of(cohort, ["p1", "p2"]), Seen.of(cohort, ["p2", "p3"])
    elsewhere = Seen({"b": Group(hashes_of(["p4"]))})
    both = one | two | elsewhere
    assert both.count == 4
    assert len(both.recordings) == 3  # the signals of three; they were not read from files
    written = json.loads(json.dumps({"seen": both.to_json()}))
    again = Seen.from_json(written)
    everybody = sorted(set(cohort.persons.values()))
    assert again.among(cohort, everybody) == ["p1", "p2", "p3"]
    assert again.knows("b", "P04")
    assert Seen.from_json({}).count == 0


def test_a_file_of_before_names_whom_it_has_seen():
    old = {"seen": ["TR03-0005"], "dataset": "a", "seen_elsewhere": {"b": ["p1"]}}
    seen = Seen.from_json(old | {"seen_recordings": ["00000000000000ff"], "sfreq_hz": 100.0})
    assert seen.knows("a", "tr3-5")
    assert seen.knows("b", "P01")
    assert seen.recordings.tolist() == [255]
    images = Seen.from_json({"seen": ["cat/01.png"], "card": {"name": "c"}, "sfreq_hz": None})
    assert images.groups["c"].holds(["cat/1.png", "cat/01.png"]).tolist() == [False, True]


def image_store(path, names, part="train", dataset="c"):
    """Write a store of one pack of images of 2 x 2 pixels."""
    card = ImageCard(
        name=dataset, title="t", licence="", citation="", images="folders", size=(2, 2)
    )
    create_store(path, card.store_attributes(["x"]))
    pixels = np.zeros((len(names), 3, 2, 2), np.uint8)
    label = np.zeros(len(names), np.int16)
    write_record(path, part, Images(pixels, label, tuple(names), {"part": part}))
    return Store(path)


def test_many_names_are_bits_over_their_stores_list(tmp_path, monkeypatch):
    monkeypatch.setattr("biopart.store.seen.MOST_NAMES", 3)
    names = [f"n{number}" for number in range(10)]
    store = image_store(tmp_path / "a.zarr", names)
    seen = Seen.from_json(json.loads(json.dumps({"seen": Seen.of(store, names[:5]).to_json()})))
    (listing,) = seen.groups["c"].listings
    assert (listing.count, len(seen.groups["c"].hashes)) == (5, 0)
    assert seen.among(store, names) == names[:5]
    # A store of other images of the same data set: those of a part that was never used are free.
    assert seen.among(image_store(tmp_path / "v.zarr", ["m1"], part="val"), ["m1"]) == []
    assert seen.among(image_store(tmp_path / "t.zarr", ["m1"]), ["m1"]) == ["m1"]  # cannot be told
    assert seen.among(image_store(tmp_path / "o.zarr", names, dataset="d"), names) == []
    joined = seen | Seen.of(store, names[4:8]) | Seen.of(store, ["n9"])
    assert joined.among(store, names) == [*names[:8], "n9"]


def test_a_million_images_cost_less_than_a_megabyte(tmp_path):
    names = [f"train/n{number:07d}" for number in range(1_000_000)]
    listing = Listing(digest_of(names), np.arange(1_000_000) % 3 > 0, frozenset({"train"}))
    text = json.dumps(Seen({"imagenet1k": Group(listings=(listing,))}).to_json())
    assert len(text) < 200_000
    (again,) = Seen.from_json({"seen": json.loads(text)}).groups["imagenet1k"].listings
    assert again.count == 666_666
    hashed = json.dumps(Seen({"a": Group(hashes_of(names[:MOST_NAMES]))}).to_json())
    assert len(hashed) < 1_000_000 / 2


def give_seen(run, path, seen, **about):
    """Write an encoder that has seen persons, as a file or in a folder of a run."""
    shape = Store(stored_recipe(run).data.store)
    encoder = ViT((shape.epoch_samples,), (20,), 2, 16, 2, 2)
    known = {"seen": seen, "card": {"name": "small"}, "channels": ["A", "B"], "sfreq_hz": 20.0}
    Model(encoder, About.read({**known, **about})).save(path)
    return path


@pytest.mark.parametrize("spelled", [str.upper, lambda name: f"{name[0]}0{name[1:]}"])
@pytest.mark.parametrize("as_file", [True, False])
def test_weights_that_have_met_a_test_person_are_refused_in_any_form(
    run, tmp_path, spelled, as_file
):
    tested = open_experiment(stored_recipe(run)).split.test[0]
    (tmp_path / "B").mkdir()
    (tmp_path / "B/recipe.yaml").write_text("name: b\n")
    path = give_seen(run, tmp_path / "B/encoder.safetensors", [spelled(tested)])
    where = path if as_file else tmp_path / "B"
    with pytest.raises(ValueError, match=f"the model has seen {tested}"):
        finetune(run, changes=[f"finetune.weights={where}"])


def test_weights_of_other_channels_or_another_data_set(run, tmp_path):
    tested = open_experiment(stored_recipe(run)).split.test[0]
    foreign = give_seen(run, tmp_path / "w.safetensors", [tested], card={"name": "elsewhere"})
    tuned = finetune(run, changes=[f"finetune.weights={foreign}"])
    assert Model.load(tuned).about.seen.knows("elsewhere", tested)
    other = give_seen(run, tmp_path / "c.safetensors", [], channels=["X", "Y"])
    with pytest.raises(ValueError, match="the encoder was pretrained on X, Y; the recipe"):
        finetune(run, changes=[f"finetune.weights={other}"])


def test_a_probe_refuses_a_run_that_has_met_its_test_persons(run):
    tested = run.provenance()["test"][0]
    model, dataset = Model.load(run), open_experiment(stored_recipe(run)).cohort
    seen = Seen({dataset_of(dataset): Group(hashes_of([canonical(tested)]))})
    Model(model.net, model.about.model_copy(update={"seen": seen})).save(run.encoder)
    with pytest.raises(ValueError, match=f"the model has seen {tested}"):
        probe(run, features=["pretrained_mean"])


def test_another_data_set_whose_persons_are_named_alike_is_scored_in_full(run, recipe, tmp_path):
    tuned = finetune(run)
    store = Store(recipe.data.store)
    other = tmp_path / "other.zarr"
    attributes = {**store.attributes, "card": {**store.attributes["card"], "name": "other"}}
    create_store(other, {k: v for k, v in attributes.items() if k != "format_version"})
    for record in store.records:
        arrays = store.scale(record), store.label(record), store.bad(record)
        flipped = np.ascontiguousarray(store.signal(record)[:, ::-1])
        write_record(other, record, Record(flipped, *arrays, {"person": store.persons[record]}))
    result = evaluate(tuned, other)
    assert result["n_persons_scored"] == 8
    assert (result["n_persons_without_label"], result["persons_without_label"]) == (1, ["p7"])
    assert result["n_persons_not_asked"] == 0


def test_a_recording_that_was_met_is_refused_under_any_name(run, recipe, tmp_path):
    tuned = finetune(run)
    seen = tuned.provenance()["seen_persons"][0]
    record = f"n{seen[1:]}"
    other = copied(
        recipe.data.store, tmp_path / "x.zarr", {seen: "nobody"}, dataset="new", keep=[record]
    )
    with pytest.raises(ValueError, match="the model has seen nobody"):
        evaluate(tuned, other)


def test_one_recording_of_two_persons_is_a_problem_and_stops_an_experiment(recipe, tmp_path):
    store = tmp_path / "twins.zarr"
    shutil.copytree(recipe.data.store, store)
    held = Store(store)
    arrays = held.signal("n0"), held.scale("n0"), held.label("n0"), held.bad("n0")
    write_record(store, "n9", Record(*arrays, {"person": "p9"}))
    said = "the persons p0 and p9 share one recording: prepare the store again with same_person"
    assert [p for p in check_store(Store(store))["problems"] if p.startswith(said)]
    values = recipe.model_dump(mode="json") | {"data": {"store": str(store)}}
    with pytest.raises(ValueError, match=said):
        open_experiment(resolve(values, [], "small"))


def test_persons_that_differ_in_spelling_alone_are_a_problem(recipe, tmp_path):
    store = copied(recipe.data.store, tmp_path / "s.zarr", {"p1": "P-1", "p2": "p-01"})
    (line,) = doubtful_persons(Store(store))
    assert line.startswith("the persons P-1 and p-01 differ only in spelling")


def test_a_renamed_person_changes_the_fingerprint_of_a_store(recipe, tmp_path):
    same = copied(recipe.data.store, tmp_path / "a.zarr", {})
    other = copied(recipe.data.store, tmp_path / "b.zarr", {"p1": "p11"})
    assert Store(same).fingerprint != Store(other).fingerprint


def test_weights_that_say_nothing_have_met_nobody(run, tmp_path):
    encoder = ViT((120,), (20,), 2, 16, 2, 2)
    torch.save(encoder.state_dict(), tmp_path / "w.pth")
    tuned = finetune(run, changes=[f"finetune.weights={tmp_path / 'w.pth'}"])
    assert isinstance(tuned, Run)
    split = open_experiment(stored_recipe(run)).split
    assert set(tuned.provenance()["seen_persons"]) == {*split.validation, *split.subset(3, 0)}


def kept(run, *changes):
    """Whether a fine-tuning keeps the positions that it starts from."""
    recipe = stored_recipe(run, changes)
    return Plan(open_experiment(recipe), run, 3, 0, recipe.compute, False).settings.keep_positions


def test_weights_of_an_unknown_method_keep_their_positions(run, tmp_path):
    encoder = ViT((120,), (20,), 2, 16, 2, 2)
    torch.save(encoder.state_dict(), tmp_path / "w.pth")
    torch.save(ViT((120,), (20,), 2, 16, 2, 2, position="none").state_dict(), tmp_path / "n.pth")
    file = f"finetune.weights={tmp_path / 'w.pth'}"
    assert not kept(run)  # PART's own protocol
    assert not kept(run, f"finetune.weights={run.path}")
    assert kept(run, file)
    assert not kept(run, file, "finetune.keep_positions=false")
    assert not kept(run, file, "finetune.position=none")
    assert not kept(run, f"finetune.weights={tmp_path / 'n.pth'}")
    tuned = finetune(run, changes=[file, "finetune.lr=1e-12", "finetune.weight_decay=0"])
    table = load_tensors(tuned.model)[0]["encoder.pos_embed"]
    torch.testing.assert_close(table, encoder.state_dict()["pos_embed"], atol=1e-6, rtol=0)
    assert "with its positions" in tuned.result()["weights"]
