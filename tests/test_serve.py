"""The local page: a night goes in, its files come out, and what is wrong is said in a sentence."""

import asyncio
import io
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile

import edfio
import pytest
import torch
import uvicorn
from click.testing import CliRunner
from starlette.testclient import TestClient

from biopart.cli import main
from biopart.nn import About, Classifier, Model
from biopart.run import Run
from biopart.signals import simulate_cohort
from biopart.store import load_card
from biopart.studies.serve import Jobs, make_app, serve
from biopart.studies.serve.jobs import options_of


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two simulated nights of 12 minutes as EDF, one channel."""
    folder = tmp_path_factory.mktemp("raw")
    simulate_cohort(folder, persons=2, hours=0.2, seed=0, kind="edf", channels=["C4-M1"])
    return sorted(folder.glob("*-PSG.edf"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A stager that was never trained, in a run's folder."""
    path = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(0)
    model = Classifier(1, 5, 3000, 100.0, dim=16, depth=1, heads=2)
    card = load_card("physionet2018").model_dump(mode="json") | {"channels": ["C4-M1"]}
    about = {"channels": ["C4-M1"], "sfreq_hz": 100.0, "epoch_s": 30.0, "normalise": "window"}
    about |= {"label_names": ["W", "N1", "N2", "N3", "R"], "card": card, "seen": []}
    target = Run(path / "finetune" / "s1-seed0")
    target.path.mkdir(parents=True)
    (path / "recipe.yaml").write_text("{}")
    known = About.read(about | {"simulated": True, "recipe": "x"})
    Model(model, known).save(target.model)
    return target


@pytest.fixture
def jobs(run):
    return Jobs(run)


@pytest.fixture
def client(jobs):
    app = make_app(jobs, limit_bytes=1_000_000)
    with TestClient(app, base_url="http://127.0.0.1") as made:
        yield made


def send(client, path, **fields):
    return client.post("/nights", files={"night": (path.name, path.read_bytes())}, data=fields)


def wait(client, address):
    for _ in range(600):
        answer = client.get(f"{address}/state").json()
        if answer["state"] not in ("waiting", "running"):
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def test_a_night_goes_in_and_its_files_come_out(client, jobs, nights):
    page = client.get("/").text
    assert "For research; not a medical device." in page
    answer = send(client, nights[0], lights_off="")
    address = str(answer.url.path)
    assert answer.history[0].status_code == 303
    assert wait(client, address) == {"state": "done", "before": 0, "error": ""}
    shown = client.get(address).text
    assert f"{address}/hypnogram.csv" in shown
    assert client.get(f"{address}/hypnogram.csv").text.splitlines()[0].startswith("epoch,onset_s")
    assert len(client.get(f"{address}/hypnogram.csv").text.splitlines()) == 1 + 24
    assert "Sleep statistics" in client.get(f"{address}/night.html").text
    names = zipfile.ZipFile(io.BytesIO(client.get(f"{address}/all.zip").content)).namelist()
    assert names == ["hypnogram.csv", "hypnogram.edf", "summary.json", "night.html"]
    job = jobs[address.rpartition("/")[2]]
    assert not (job.folder / nights[0].name).exists()  # what was sent is gone
    assert client.get(f"{address}/../../etc/passwd").status_code == 404
    assert client.get(f"{address}/passwd").status_code == 404
    assert client.post(f"{address}/delete").status_code == 200
    assert client.get(address).status_code == 404
    assert not job.folder.exists()


def test_two_at_once_are_staged_one_after_the_other(client, jobs, nights):
    first, second = (str(send(client, path).url.path) for path in nights)
    assert {wait(client, first)["state"], wait(client, second)["state"]} == {"done"}
    keys = [address.rpartition("/")[2] for address in (first, second)]
    assert [jobs[key].name for key in keys] == [path.name for path in nights]
    assert first != second


def test_a_waiting_night_says_how_many_are_before_it(jobs, nights, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(
        "biopart.studies.serve.jobs.stage_nights", lambda *_, **__: gate.wait(10) and [{}]
    )
    made = []
    for name in ("a.edf", "b.edf", "c.edf"):
        path = jobs.new_folder() / name
        path.touch()
        made.append(jobs.add(path, name, options={}))
    while made[0].state != "running":
        time.sleep(0.01)
    assert [job.state for job in made] == ["running", "waiting", "waiting"]
    assert [jobs.before(job) for job in made[1:]] == [1, 2]
    jobs.remove(made[1].key)  # a waiting night is never staged
    assert jobs.before(made[2]) == 1
    gate.set()
    jobs.close()
    assert not made[0].folder.exists()


def test_too_many_waiting_nights_are_refused(jobs, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr("biopart.studies.serve.jobs.stage_nights", lambda *_, **__: gate.wait(10))
    monkeypatch.setattr("biopart.studies.serve.jobs.MOST_WAITING", 2)
    for _ in range(3):
        path = jobs.new_folder() / "a.edf"
        path.touch()
        running = jobs.add(path, "a.edf", options={})
        while not len(jobs) > 1 and running.state == "waiting":
            time.sleep(0.01)
    with pytest.raises(ValueError, match="2 nights are already waiting"):
        jobs.add(path, "a.edf", options={})
    gate.set()
    jobs.close()


def test_results_are_deleted_when_they_are_old(run, nights):
    old = Jobs(run, keep_s=1.0)
    with TestClient(make_app(old, limit_bytes=10**6), base_url="http://localhost") as client:
        address = str(send(client, nights[0]).url.path)
        wait(client, address)
        folder = old[address.rpartition("/")[2]].folder
        for _ in range(100):  # nobody looks at a page meanwhile
            if not folder.exists():
                break
            time.sleep(0.1)
        assert (len(old), folder.exists()) == (0, False)


def test_what_cannot_be_staged_is_said_on_the_page(client, nights, tmp_path):
    broken = tmp_path / "no.edf"
    broken.write_bytes(b"not an EDF")
    address = str(send(client, broken).url.path)
    assert "no.edf" in wait(client, address)["error"]
    assert "no.edf" in client.get(address).text
    address = str(send(client, nights[0], channels="EEG=C4-M1").url.path)
    assert "the model has no channel EEG" in wait(client, address)["error"]
    truth = ("truth.csv", b"stage\nW\n")
    files = {"night": (nights[0].name, nights[0].read_bytes()), "truth": truth}
    address = str(client.post("/nights", files=files).url.path)
    assert wait(client, address)["state"] == "done"  # an expert of one epoch is one of few


def test_an_error_that_nobody_foresaw_is_logged_and_tells_nothing(jobs, monkeypatch, caplog):
    def broken(*_, **__):
        raise KeyError("secret")

    monkeypatch.setattr("biopart.studies.serve.jobs.stage_nights", broken)
    path = jobs.new_folder() / "a.edf"
    path.touch()
    job = jobs.add(path, "a.edf", options={})
    jobs.close()
    assert (job.state, "secret" in job.error) == ("failed", False)
    assert "secret" in caplog.text


def test_wrong_uploads_are_refused_with_the_reason(client, nights):
    for files, status, message in (
        (
            {"night": ("a.exe", b"MZ")},
            422,
            "a.exe is not of an accepted type; send one of .edf, .bdf",
        ),
        ({"night": ("a.edf", b"x" * 1_000_001)}, 413, "larger than the limit of 1 MB"),
        ({"other": ("a.edf", b"x")}, 422, "no file was sent"),
        ({}, 400, "send a form with a file"),
    ):
        answer = client.post("/nights", files=files or None)
        assert (answer.status_code, message in answer.text) == (status, True)
    answer = send(client, nights[0], channels="C4-M1")
    assert (answer.status_code, "does not name a channel" in answer.text) == (422, True)


def test_what_is_refused_is_not_kept(client, jobs, nights):
    files = {"night": (nights[0].name, nights[0].read_bytes()), "truth": ("t.exe", b"MZ")}
    assert client.post("/nights", files=files).status_code == 422
    mine = jobs.new_folder()
    assert list(mine.parent.iterdir()) == [mine]


def test_an_upload_that_does_not_say_its_size_is_stopped_too(client):
    def chunks():
        yield b"--b\r\nContent-Disposition: form-data; name=night; filename=a.edf\r\n\r\n"
        for _ in range(20):
            yield b"x" * 100_000

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/nights", content=chunks(), headers=headers)
    assert answer.status_code == 413


def test_others_get_in_by_the_token_alone(run):
    app = make_app(Jobs(run), limit_bytes=10**6, token="s3cret", hosts=("*",))
    with TestClient(app, base_url="http://lab.example") as client:
        assert client.get("/").status_code == 403
        assert client.get("/?token=wrong").status_code == 403
        assert client.get("/?token=sécret").status_code == 403
        bearer = {"Authorization": "Bearer s3cret"}
        assert client.get("/", headers=bearer).status_code == 200
        assert client.get("/?token=s3cret").status_code == 200
        assert client.get("/").status_code == 200  # by the cookie
        assert "s3cret" not in str(client.get("/").url)


def test_other_names_and_other_sites_are_refused(client, nights):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    files = {"night": (nights[0].name, b"x")}
    answer = client.post("/nights", files=files, headers={"Origin": "http://evil.example"})
    assert (answer.status_code, "another site" in answer.text) == (403, True)
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'nonce-" in policy


def test_an_upload_that_breaks_off_leaves_nothing(run, nights):
    jobs = Jobs(run)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = make_app(jobs, limit_bytes=10**8)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with socket.create_connection(("127.0.0.1", port)) as line:
        head = "POST /nights HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
        line.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b".encode())
    time.sleep(0.3)
    before = list(jobs.new_folder().parent.iterdir())
    assert (len(jobs), len(before)) == (0, 1)  # the folder made by this look alone
    server.should_exit = True
    thread.join()


def test_a_server_for_others_needs_a_token_and_a_stager(run, tmp_path):
    with pytest.raises(ValueError, match="can be reached from other machines; give --token SECRET"):
        serve(run, host="0.0.0.0")
    answer = CliRunner().invoke(main, ["serve", str(tmp_path / "no")])
    assert answer.exit_code == 1
    with pytest.raises(ValueError, match="'C4' does not name a channel"):
        options_of({"channels": "C4"})


def hypnogram_of(night):
    """Return a hypnogram of 24 epochs, as text and as EDF+ annotations alone."""
    notes = [edfio.EdfAnnotation(30.0 * n, 30.0, "Sleep stage W") for n in range(24)]
    file = io.BytesIO()
    edfio.Edf([], annotations=notes).write(file)
    return {"x.csv": b"stage\n" + b"W\n" * 24, "x.edf": file.getvalue()}


@pytest.mark.parametrize("name", ["x.csv", "x.edf"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_recording_dropped_with_its_hypnogram_is_compared(client, jobs, nights, name, first):
    night = nights[0]
    files = [(night.name, night.read_bytes()), (name, hypnogram_of(night)[name])]
    files = files[first:] + files[:first]
    answer = client.post("/nights", files=[("night", one) for one in files])
    address = str(answer.url.path)
    assert wait(client, address)["state"] == "done"
    summary = jobs[address.rpartition("/")[2]].summary
    assert (summary["source"], summary["agreement"]["n_windows"]) == (night.name, 24)


def test_two_recordings_are_both_taken(client, jobs, nights):
    files = [("night", (path.name, path.read_bytes())) for path in nights]
    address = str(client.post("/nights", files=files).url.path)
    (other,) = jobs[address.rpartition("/")[2]].others
    assert f"/nights/{other[0]}" in client.get(address).text
    assert {wait(client, one)["state"] for one in (address, f"/nights/{other[0]}")} == {"done"}


def test_hypnograms_that_belong_to_no_recording_are_refused_and_not_kept(client, jobs, nights):
    truth = hypnogram_of(nights[0])["x.csv"]
    for files, message in (
        ([("x.csv", truth)], "no recording was sent, only a hypnogram"),
        ([(p.name, p.read_bytes()) for p in nights] + [("x.csv", truth)], "2 recordings and 1 hyp"),
    ):
        answer = client.post("/nights", files=[("night", one) for one in files])
        assert answer.status_code == 422
        assert message in answer.text
    assert (len(jobs), len(list(jobs.new_folder().parent.iterdir()))) == (0, 1)


def test_a_night_that_was_refused_can_be_tried_again_without_sending_it(client, jobs, nights):
    address = str(send(client, nights[0], channels="C4-M1=Cz").url.path)
    assert "C4-M1 cannot be derived" in wait(client, address)["error"]
    assert "The recording is still here" in client.get(address).text
    again = client.post(f"{address}/again", data={"channels": ""}, files={"_": ("", b"")})
    assert client.get(address).status_code == 404
    assert wait(client, str(again.url.path))["state"] == "done"
    answer = client.post(f"{again.url.path}/again", data={"channels": ""}, files={"_": ("", b"")})
    assert answer.status_code == 422


def test_a_port_that_is_taken_is_said_before_any_address(run):
    told = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 cannot be used"):
            serve(run, port=port, say=told.append)
    assert told == []


def test_ctrl_c_ends_a_server_in_order(run):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "biopart", "serve", str(run.path), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout.readline() == f"http://127.0.0.1:{port}/\n".encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            assert b"Stage a night" in page.read()
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=60) == (b"", b"")
        assert server.returncode == 0
