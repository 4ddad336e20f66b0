"""Stores at an address: the same as in a folder, through a cache of a size, with clear refusals."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import Request, urlopen

import fsspec
import numpy as np
import pytest
import s3fs
import torch
from moto.server import ThreadedMotoServer
from numpy.typing import NDArray

from biopart.addresses import is_address, place
from biopart.data import open_cohort
from biopart.data.sampler import Sampler
from biopart.data.source import Opened, foreseen
from biopart.nn.weights import load_tensors
from biopart.recipe import Recipe
from biopart.signals import ingest
from biopart.store import Record, Store, create_store, finish_store, load_card, write_record
from biopart.store.cache import Cache, opened_cache
from biopart.verbs.check import check_store
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Address of an empty bucket, with a cache of its own."""
    at_server(monkeypatch, moto)
    monkeypatch.setenv("BIOPART_CACHE", str(tmp_path / "cache"))
    name = f"bucket-{abs(hash(tmp_path)):x}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


def at_server(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()


def trained(values: dict[str, Any], store: str, out: Path) -> dict[str, Any]:
    """Pretrain and fine-tune; return what must be equal for equal stores."""
    recipe = Recipe.model_validate(values | {"data": {"store": store}})
    run = pretrain(recipe, out=out, latest=False)
    result = finetune(run).result()
    seconds = ("seconds", "windows_per_second", "simulated")
    return {
        "rows": [{k: v for k, v in row.items() if k not in seconds} for row in run.metrics()],
        "weights": {k: v.tolist() for k, v in load_tensors(run.encoder)[0].items()},
        "result": {k: v for k, v in result.items() if k not in seconds},
    }


def test_a_store_in_a_bucket_is_the_one_in_a_folder(
    bucket: str, simulated_raw: Path, simulated_store: Path
) -> None:
    address = place(f"{bucket}/nights.zarr")
    card = load_card("physionet2018")
    first = ingest(card, simulated_raw, address, layout="archive", jobs=2)
    again = ingest(card, simulated_raw, address, layout="archive")
    assert (first.refused, again.written) == ({}, [])
    assert again.kept == first.written
    there, here = Store(address), Store(simulated_store)
    assert there.fingerprint == here.fingerprint
    for record in here:
        np.testing.assert_array_equal(there.signal(record), here.signal(record))
        np.testing.assert_array_equal(there.label(record), here.label(record))
        np.testing.assert_array_equal(there.bad(record), here.bad(record))
        np.testing.assert_array_equal(there.scale(record), here.scale(record))
        assert there.about(record) == here.about(record)
        assert there[record].equals(here[record])
    assert check_store(there)["problems"] == check_store(here)["problems"]


def test_trainings_on_a_bucket_are_those_on_a_folder_bit_for_bit(
    bucket: str, small_recipe: dict[str, Any], small_store: Path, tmp_path: Path
) -> None:
    files = s3fs.S3FileSystem()
    files.put(str(small_store), f"{bucket}/small.zarr", recursive=True)
    finish_store(place(f"{bucket}/small.zarr"))
    small_recipe["finetune"] |= {"epochs": 3}
    here = trained(small_recipe, str(small_store), tmp_path / "here")
    there = trained(small_recipe, f"{bucket}/small.zarr", tmp_path / "there")
    assert json.dumps(there, default=str) == json.dumps(here, default=str)


def test_a_record_appears_with_its_metadata_and_a_broken_write_leaves_none(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = place(f"{bucket}/few.zarr")
    few_records(address, 2)
    original = s3fs.S3FileSystem._pipe_file

    async def fails_at_last(self: Any, path: str, data: bytes, **options: Any) -> None:
        if path.endswith("n2/zarr.json"):
            raise OSError("connection reset")
        await original(self, path, data, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", fails_at_last)
    s3fs.S3FileSystem.clear_instance_cache()
    address = place(f"{bucket}/few.zarr")
    with pytest.raises(ValueError, match=r"cannot be reached .connection reset.; check the conn"):
        few_records(address, 3)
    assert Store(address, growing=True).records == ("n0", "n1")
    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", original)
    s3fs.S3FileSystem.clear_instance_cache()
    address = place(f"{bucket}/few.zarr")
    few_records(address, 3)
    assert Store(address, growing=True).records == ("n0", "n1", "n2")
    assert Store(address).records == ("n0", "n1")  # until the store is finished
    finish_store(address)
    assert Store(address).records == ("n0", "n1", "n2")


def few_records(address: Path, count: int) -> None:
    """Write records n0, n1 ... of three windows, then finish the store if it has two."""
    about = {"card": {"name": "few", "title": "", "licence": ""}, "epoch_s": 5.0}
    create_store(address, {**about, "sfreq_hz": 20.0, "label_names": ["W"], "channels": ["A"]})
    for number in range(count):
        signal = np.random.default_rng(number).integers(-99, 99, (1, 300)).astype(np.int16)
        no_bad = np.zeros((0, 2), np.int64)
        record = Record(signal, np.ones(1), np.zeros(3, np.int8), no_bad, {"person": f"p{number}"})
        write_record(address, f"n{number}", record, layout="archive")
    if count == 2:
        finish_store(address)


def test_what_a_cache_cannot_hold_is_fetched_again_and_removed(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = place(f"{bucket}/few.zarr")
    few_records(address, 2)
    few_records(address, 5)
    finish_store(address)
    monkeypatch.setenv("BIOPART_CACHE_GB", "1.5e-6")  # two of five signals of 600 bytes
    source = open_cohort(address).source()
    assert source.groups is not None
    whole = open_cohort(address)
    for items in Sampler(len(source), 4, 0, groups=source.groups).batches(0):
        batch = source.__getitems__(items)
        for row, item in enumerate(items.tolist()):
            signal = whole.signal(f"n{source.record[item]}")
            start = 100 * source.place[item]
            np.testing.assert_array_equal(batch.values[row], signal[:, start : start + 100])
    held = list((tmp_path / "cache").rglob("*.raw"))
    assert sum(path.stat().st_size for path in held) <= 1500


def test_the_least_recently_used_leaves_the_cache_first(tmp_path: Path) -> None:
    cache, fetched = Cache(tmp_path, 250), []

    def get(key: str) -> int:
        def fetch() -> Any:
            fetched.append(key)
            return np.full(50, ord(key), np.int16)

        return int(cache.array(key * 64, "signal", dtype="<i2", shape=(50,), fetch=fetch)[0])

    assert [get(key) for key in "abacab"] == [97, 98, 97, 99, 97, 98]
    assert fetched == ["a", "b", "c", "b"]  # b made room for c
    none = cache.array("d", "bad", dtype="<i8", shape=(0, 2), fetch=lambda: pytest.fail("fetched"))
    assert none.shape == (0, 2)


def test_groups_follow_each_other_and_mix_with_few() -> None:
    groups = np.repeat(np.arange(50), 20)
    sampler = Sampler(1000, 10, 3, groups=groups, spread=4)
    batches = list(sampler.batches(1))
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(1000))
    np.testing.assert_array_equal(order, np.concatenate(list(sampler.batches(1))))
    assert order.tolist() != np.concatenate(list(sampler.batches(2))).tolist()
    seen = groups[order]
    first = np.array([np.flatnonzero(seen == group)[0] for group in range(50)])
    last = np.array([np.flatnonzero(seen == group)[-1] for group in range(50)])
    in_use = [int(((first <= at) & (last >= at)).sum()) for at in range(1000)]
    assert max(in_use) <= 6
    assert len(np.unique(np.sort(first).argsort())) == 50
    assert not np.array_equal(np.argsort(first), np.arange(50))


def test_what_batches_to_come_need_is_fetched_meanwhile_and_once() -> None:
    read: list[str] = []
    free = Event()

    def slow(name: str) -> NDArray[np.int16]:
        assert free.wait(30)
        read.append(name)
        if name == "r5":
            raise ValueError("r5 is damaged")
        return np.full((1, 4), int(name[1:]), np.int16)

    store = SimpleNamespace(
        records=[f"r{n}" for n in range(9)], remote=True, is_larger_than_cache=False
    )
    opened: Opened[np.int16] = Opened(slow, cast(Store, store), torch.int16)
    opened.expect([3, 1, 3, 5, 0, 7, 8])  # four at a time, the others later
    assert read == []
    free.set()
    assert opened[1].tolist() == [[1, 1, 1, 1]]
    opened.expect([1, 7])
    opened.fetch([1, 3, 0])
    assert [int(opened[n][0, 0]) for n in (3, 7, 0, 8)] == [3, 7, 0, 8]
    with pytest.raises(ValueError, match="r5 is damaged"):
        opened[5]
    assert sorted(read) == ["r0", "r1", "r3", "r5", "r7", "r8"]


def test_batches_come_in_their_order_whatever_is_fetched_ahead(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_cohort(small_store).source()
    batches = list(Sampler(len(source), 5, seed=3).batches(0))
    asked: list[int] = []
    monkeypatch.setattr(type(source), "expect", lambda self, items: asked.extend(items.tolist()))
    for remote in (False, True):
        monkeypatch.setattr(source.cohort, "remote", remote, raising=False)
        found = list(foreseen(source, iter(batches), lambda items: items[:2]))
        assert [one.tolist() for one in found] == [one.tolist() for one in batches]
        assert asked == ([n for one in batches for n in one[:2].tolist()] if remote else [])


def test_memory_and_paths_are_places() -> None:
    assert not is_address(place("a/b.zarr"))
    assert str(place(place("memory://a/b.zarr"))) == "memory://a/b.zarr"
    address = place("memory://places/few.zarr")
    few_records(address, 2)
    assert Store("memory://places/few.zarr").records == ("n0", "n1")
    fsspec.filesystem("memory").rm("places", recursive=True)
    with pytest.raises(FileNotFoundError, match=r"store memory://places/few.zarr does not exist"):
        Store("memory://places/few.zarr")
    with pytest.raises(ValueError, match=r"strange://a cannot be opened .*; give s3://, gs://"):
        place("strange://a")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(scheme: str) -> None:
        raise ImportError(f"nothing for {scheme}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    with pytest.raises(ValueError, match=r'nothing for gs.*pip install "biopart\[gs\]"'):
        place("gs://a/b")


def test_a_recipe_keeps_an_address(small_recipe: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(small_recipe | {"data": {"store": "s3://bucket/a.zarr"}})
    assert is_address(recipe.data.store)
    assert "store: s3://bucket/a.zarr" in recipe.to_yaml()


def test_a_cache_without_a_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOPART_CACHE_GB", "many")
    with pytest.raises(ValueError, match="BIOPART_CACHE_GB is 'many'; give a number of gigabytes"):
        opened_cache()


def test_a_bucket_that_is_not_there_or_does_not_answer_is_a_sentence(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://no-such-bucket/a.zarr does not exist"):
        Store("s3://no-such-bucket/a.zarr")
    with pytest.raises(FileNotFoundError, match=r"there is no s3://no-such-bucket/a.zarr"):
        few_records(place("s3://no-such-bucket/a.zarr"), 1)
    at_server(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(
        ValueError, match=r"s3://bucket/a.zarr/zarr.json cannot be reached .*127.0.0.1:9"
    ):
        Store("s3://bucket/a.zarr")


class Hindered(BaseHTTPRequestHandler):
    """Passes requests on to a server of S3, but refuses or breaks some of them."""

    target = ""
    refuse_writing = False
    throttled = 0
    broken = 0
    lock = Lock()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = type(self)
        with kind.lock:
            throttle, cut = kind.throttled > 0, kind.throttled <= 0 < kind.broken
            kind.throttled -= throttle
            kind.broken -= cut
        if kind.refuse_writing and self.command not in ("GET", "HEAD"):
            return self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if throttle:
            return self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
        if cut:
            self.connection.close()
            return None
        headers = {k: v for k, v in self.headers.items() if k != "Host"}
        request = Request(kind.target + self.path, body or None, headers, method=self.command)
        try:
            with urlopen(request) as answer:
                return self._answer(answer.status, answer.read(), dict(answer.headers))
        except OSError as error:
            status = getattr(error, "code", 500)
            return self._answer(status, error.read() if hasattr(error, "read") else b"")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            if key not in ("Transfer-Encoding", "Connection", "Content-Length", "Date", "Server"):
                self.send_header(key, value)
        length = (headers or {}).get("Content-Length") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hindered(bucket: str, moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hindered]]:
    """A server in front of the bucket's."""
    few_records(place(f"{bucket}/few.zarr"), 2)
    handler = type("Own", (Hindered,), {"target": moto})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        at_server(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        yield handler
        server.shutdown()
        thread.join()


def test_a_server_that_slows_down_or_breaks_off_is_asked_again(
    bucket: str, hindered: type[Hindered]
) -> None:
    hindered.throttled, hindered.broken = 3, 2
    store = Store(f"{bucket}/few.zarr")
    expected = np.random.default_rng(1).integers(-99, 99, (1, 300))
    hindered.throttled, hindered.broken = 2, 1
    np.testing.assert_array_equal(store.signal("n1"), expected)
    assert (hindered.throttled, hindered.broken) == (0, 0)


def test_a_bucket_that_is_read_only_is_a_sentence(bucket: str, hindered: type[Hindered]) -> None:
    hindered.refuse_writing = True
    with pytest.raises(ValueError, match=r"few.zarr refuses access .*whether the bucket may be wr"):
        few_records(place(f"{bucket}/few.zarr"), 3)
