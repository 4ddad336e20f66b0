"""Fetching: resumed, checked, inside its folder; against a small server on this machine."""

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import fsspec
import numpy as np
import pytest

from biopart.store import load_card
from biopart.store.card import Origin
from biopart.store.fetch import Remote, fetch_card, fetch_files, pick_files, read_records
from biopart.store.listing import check_name, derive_records, read_sha256sums, select_records
from biopart.verbs.fetch import fetch

BODY = np.random.default_rng(0).bytes(300_000)
SUM = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """What the server offers, how it misbehaves, and what it was asked and has sent."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    heads: bool = True
    span: str = "bytes {start}-{last}/{total}"
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests quiet."""

    def do_HEAD(self) -> None:
        body = self.state.files.get(unquote(self.path[1:]))
        status = 405 if not self.state.heads else 404 if body is None else 200
        self._head(status, len(body or b""))

    def do_GET(self) -> None:
        state, name = self.state, unquote(self.path[1:])
        state.asked.append(name)
        if name in state.moved:
            return self._head(302, 0, Location=state.moved[name])
        if state.statuses:
            return self._head(state.statuses.pop(0), 0)
        if name not in state.files:
            return self._head(404, 0)
        return self._body(state.files[name])

    def _body(self, body: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(found[1]) if found and self.state.ranges else 0
        if start >= len(body) > 0:
            return self._head(416, 5, b"error", **{"Content-Range": f"bytes */{len(body)}"})
        limit = self.state.break_after.pop(0) if self.state.break_after else len(body)
        part = body[start : start + limit]
        self.state.sent.append(len(part))
        place = self.state.span.format(start=start, last=len(body) - 1, total=len(body))
        span = {"Content-Range": place} if start else {}
        return self._head(206 if start else 200, len(body) - start, part, **span)

    def _head(self, status: int, length: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server(files={"a.bin": BODY})
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def no_pause(seconds: float) -> None:
    """Go on at once."""


def sums_of(files: dict[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in files.items()]
    return "".join(lines).encode()


def test_a_file_arrives_whole_and_without_its_part(server: Server, tmp_path: Path) -> None:
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path / "new", checksums={"a.bin": SUM})
    assert path == tmp_path / "new" / "a.bin"
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 50_000]
    pauses: list[float] = []
    (path,) = fetch_files(
        server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM}, pause=pauses.append
    )
    assert path.read_bytes() == BODY
    assert server.sent == [100_000, 50_000, 150_000]
    assert pauses == [1, 2]


def test_a_later_call_goes_on_from_the_part(server: Server, tmp_path: Path) -> None:
    server.break_after = [10_000] * 5
    with pytest.raises(
        ConnectionError, match=r"a.bin: no connection, or a broken one, 5 times .* continue"
    ):
        fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM}, pause=no_pause)
    assert (tmp_path / "a.bin.part").stat().st_size == 50_000
    fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM})
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.sent[5:] == [250_000]


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.break_after = [100_000]
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path, pause=no_pause)
    assert path.read_bytes() == BODY
    assert server.sent == [100_000, 300_000]


@pytest.mark.parametrize("span", ["bytes 5-{last}/{total}", "nonsense"])
def test_another_range_than_the_one_asked_for_is_not_used(
    server: Server, tmp_path: Path, span: str
) -> None:
    server.span = span
    (tmp_path / "a.bin.part").write_bytes(BODY[:1000])
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM})
    assert path.read_bytes() == BODY
    assert server.sent[-1] == 300_000


@pytest.mark.parametrize(("part", "sent"), [(BODY, []), (BODY + b"too much", [300_000])])
def test_a_full_part_is_kept_and_one_too_long_begun_anew(
    server: Server, tmp_path: Path, part: bytes, sent: list[int]
) -> None:
    (tmp_path / "a.bin.part").write_bytes(part)
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM})
    assert path.read_bytes() == BODY
    assert server.sent == sent


def test_a_part_is_not_trusted_without_a_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"of another version")
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("sums", [{"a.bin": SUM.upper()}, {}])
def test_a_file_that_is_there_is_not_fetched_again(
    server: Server, tmp_path: Path, sums: dict[str, str]
) -> None:
    (tmp_path / "a.bin").write_bytes(BODY)
    assert fetch_files(server.url, ["a.bin"], tmp_path, checksums=sums) == [tmp_path / "a.bin"]
    assert server.asked == []


def test_a_file_that_does_not_agree_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(BODY[::-1])
    fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM})
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_wrong_checksum_names_both_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=f"a.bin has SHA-256 {SUM}, but the published one is {'0' * 64}"
    ):
        fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": "0" * 64})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:/x", "..\\x", "", "a\0b"])
def test_a_path_out_of_the_folder_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a path inside the data set's folder"):
        fetch_files(server.url, ["a.bin", name], tmp_path)
    assert server.asked == []
    with pytest.raises(ValueError, match=r"not a path inside|line 1"):
        read_sha256sums(f"{SUM} {name}\n")


def test_a_symbolic_link_out_of_the_folder_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "b.bin.part").symlink_to(tmp_path / "out" / "b")
    for name in ("link/a.bin", "b.bin"):
        with pytest.raises(ValueError, match=r"leaves .* through a symbolic link"):
            fetch_files(server.url, [name], tmp_path / "in")
    assert list((tmp_path / "out").iterdir()) == []


def test_too_small_a_disk_is_refused_with_both_figures(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["b.bin"] = bytes(39_900_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=30_000_000))
    with pytest.raises(ValueError, match=r"0.04 GB are needed, but only 0.03 GB are free"):
        fetch_files(server.url, ["a.bin", "b.bin"], tmp_path)
    assert server.asked == []


def test_what_is_there_needs_no_space(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY[:299_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    fetch_files(server.url, ["a.bin"], tmp_path, checksums={"a.bin": SUM})
    assert server.sent == [1000]


def test_a_missing_file_is_named_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"b.bin: the server answered 404"):
        fetch_files(server.url, ["a.bin", "b.bin"], tmp_path)
    assert server.asked == []


def test_a_server_without_head_is_taken_without_sizes(server: Server, tmp_path: Path) -> None:
    server.heads = False
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path)
    assert path.read_bytes() == BODY


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    (path,) = fetch_files(server.url, ["a.bin"], tmp_path, pause=no_pause)
    assert path.read_bytes() == BODY


def test_a_forbidden_file_asks_for_a_login(server: Server, tmp_path: Path) -> None:
    server.statuses = [403]
    with pytest.raises(ValueError, match=r"403 Forbidden; this data set needs a login"):
        fetch_files(server.url, ["a.bin"], tmp_path)


def test_another_refusal_points_at_the_address(server: Server, tmp_path: Path) -> None:
    server.statuses = [400]
    with pytest.raises(ValueError, match=r"400 Bad Request; check the address"):
        fetch_files(server.url, ["a.bin"], tmp_path)


def test_a_redirect_is_followed_and_odd_names_are_quoted(server: Server, tmp_path: Path) -> None:
    server.files["a #1?.bin"] = b"x"
    server.files["moved"] = b""
    server.moved["moved"] = "/a%20%231%3F.bin"
    paths = fetch_files(server.url, ["a #1?.bin", "moved"], tmp_path)
    assert [path.read_bytes() for path in paths] == [b"x", b"x"]


def test_fsspec_takes_every_other_scheme_and_resumes(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/fetch/sub/a.bin", BODY)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin.part").write_bytes(BODY[:1000])
    (path,) = fetch_files("memory://fetch", ["sub/a.bin"], tmp_path, checksums={"sub/a.bin": SUM})
    assert path.read_bytes() == BODY
    with pytest.raises(FileNotFoundError, match=r"b.bin: .* has no such file"):
        fetch_files("memory://fetch", ["b.bin"], tmp_path)


def test_a_missing_driver_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(ValueError, match=r'pip install "biopart\[s3\]"'):
        fetch_files("s3://bucket/x", ["a"], tmp_path)


def test_an_address_without_a_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'physionet.org/x' is not an address"):
        fetch_files("physionet.org/x", ["a"], tmp_path)


CINC = [
    "age-sex.csv", "RECORDS", "test/te03-0001/te03-0001.mat", "training/RECORDS",
    "training/tr03-0005/tr03-0005.hea", "training/tr03-0005/tr03-0005.mat",
    "training/tr03-0029/tr03-0029.hea", "training/tr03-00051/tr03-00051.hea",
]  # fmt: skip
EDFX = [
    "RECORDS", "SC-subjects.xls", "sleep-cassette/SC4001E0-PSG.edf",
    "sleep-cassette/SC4001EC-Hypnogram.edf", "sleep-cassette/SC4002E0-PSG.edf",
    "sleep-telemetry/SC4001E0-PSG.edf",
]  # fmt: skip
MITDB = ["100.atr", "100.dat", "100.hea", "1000.hea", "101.dat", "RECORDS", "x/100.dat"]
EEGMAT = ["Subject00_1.edf", "Subject00_2.edf", "Subject01_1.edf", "subject-info.csv"]


@pytest.mark.parametrize(
    ("names", "records", "settings", "expected"),
    [
        (CINC, b"tr03-0005/\ntr03-0029/\n",
         {"records_file": "training/RECORDS", "extra": ("age-sex.csv",)}, [0, 3, 4, 5]),
        (EDFX, b"sleep-cassette/SC4001E0-PSG.edf\nsleep-cassette/SC4002E0-PSG.edf\n",
         {"records_file": "RECORDS", "extra": ("*.xls",), "match": 6}, [0, 1, 2, 3]),
        (MITDB, b"100\n101\n", {"records_file": "RECORDS"}, [0, 1, 2, 5]),
        (EEGMAT, b"", {"extra": ("subject-info.csv",), "match": 9}, [0, 1, 3]),
    ],
    ids=["physionet2018", "sleep-edfx", "mitdb", "eegmat"],
)  # fmt: skip
def test_one_record_is_exactly_its_files_in_every_layout(
    server: Server,
    tmp_path: Path,
    names: list[str],
    records: bytes,
    settings: dict[str, object],
    expected: list[int],
) -> None:
    lists = str(settings.get("records_file"))
    server.files = {name: records if name == lists else name.encode() for name in names}
    server.files["SHA256SUMS.txt"] = sums_of(server.files)
    remote = Remote(server.url, **settings)  # type: ignore[arg-type]
    paths = fetch_card(remote, tmp_path, records=1)
    assert paths == [tmp_path / names[index] for index in expected]
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert there == {names[index] for index in expected} | {"SHA256SUMS.txt"}


def test_more_records_than_there_are_takes_all_and_says_so(server: Server, tmp_path: Path) -> None:
    server.files = {"RECORDS": b"100\n101\n", "100.dat": b"a", "101.dat": b"b"}
    server.files["SHA256SUMS.txt"] = sums_of(server.files)
    lines: list[str] = []
    remote = Remote(server.url, "RECORDS")
    paths = fetch_card(remote, tmp_path, records=5, report=lines.append)
    assert [path.name for path in paths] == ["RECORDS", "100.dat", "101.dat"]
    assert lines[0] == "5 records requested, 2 exist: fetching all"
    assert lines[-1] == "2/2 101.dat"


@pytest.mark.parametrize(
    ("records", "expected"), [(2, [1, 3, 4, 5]), (3, [1, 2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])]
)
def test_records_of_several_lists_count_in_their_order(
    server: Server, tmp_path: Path, records: int | None, expected: list[int]
) -> None:
    names = ["RECORDS", "test/RECORDS", "test/te1/te1.mat", "training/RECORDS"]
    names += ["training/tr1/tr1.mat", "training/tr2/tr2.mat"]
    server.files = {name: name.encode() for name in names}
    server.files |= {"test/RECORDS": b"te1/\n", "training/RECORDS": b"tr1/\ntr2/\n"}
    server.files["SHA256SUMS.txt"] = sums_of(server.files)
    origin = {"url": server.url, "records_file": ["training/RECORDS", "test/RECORDS"]}
    card = load_card("physionet2018").model_copy(update={"origin": Origin(**origin)})
    assert fetch(card, tmp_path, records=records) == [tmp_path / names[i] for i in expected]


def test_a_second_call_fetches_only_the_list_of_sums(server: Server, tmp_path: Path) -> None:
    server.files = {"RECORDS": b"100\n", "100.dat": b"a"}
    server.files["SHA256SUMS.txt"] = sums_of(server.files)
    fetch_card(Remote(server.url, "RECORDS"), tmp_path)
    server.asked.clear()
    fetch_card(Remote(server.url, "RECORDS"), tmp_path)
    assert server.asked == ["SHA256SUMS.txt"]


def test_records_that_leave_the_folder_are_refused(server: Server, tmp_path: Path) -> None:
    server.files = {"RECORDS": b"../../etc/\n", "100.dat": b"a"}
    server.files["SHA256SUMS.txt"] = sums_of(server.files)
    with pytest.raises(ValueError, match=r"'../../etc/' is not a path inside"):
        fetch_card(Remote(server.url, "RECORDS"), tmp_path)


def test_lists_are_read_as_physionet_and_sha256sum_write_them() -> None:
    text = f"# made by hand\n\n{'A' * 64} a b.txt\r\n{'b' * 64} *./c/d.edf\n"
    assert read_sha256sums(text) == {"a b.txt": "a" * 64, "c/d.edf": "b" * 64}
    with pytest.raises(ValueError, match="line 2 of the list of sums"):
        read_sha256sums(f"{'a' * 64} x\nabc y\n")
    assert read_records("./100\r\n\n101\n", "RECORDS") == ["100", "101"]


def test_a_count_of_records_is_at_least_one() -> None:
    assert select_records(["a", "b"], None) == ["a", "b"]
    assert select_records(["a", "b"], 3) == ["a", "b"]
    with pytest.raises(ValueError, match="records is 0; fetch at least 1"):
        select_records(["a"], 0)


def test_a_record_without_files_and_a_wrong_glob_are_named() -> None:
    with pytest.raises(ValueError, match=r"record 102 has no file in SHA256SUMS.txt of https://x"):
        pick_files(MITDB, ["102"], Remote("https://x"))
    with pytest.raises(ValueError, match=r"no file of https://x fits '\*.bdf'"):
        derive_records(EEGMAT, Remote("https://x", files="*.bdf"))
    assert check_name("a..b/c") == "a..b/c"
