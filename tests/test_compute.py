import pytest
import torch

from biopart.compute import (
    compiled,
    cores,
    faster_precision,
    measured_precision,
    open_fabric,
    settle,
    threads_each,
)
from biopart.data import open_cohort
from biopart.data.windows import ResidentWindows
from biopart.nn import ViT
from biopart.recipe import ComputeSettings


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=r"is not available; give auto, cpu or cuda:N"):
        open_fabric(ComputeSettings(device="cuda:99"))


@pytest.mark.parametrize(("given", "spelled"), [("float32", "32-true"), ("bfloat16", "bf16-mixed")])
def test_a_stated_precision_is_taken(given, spelled):
    fabric = open_fabric(ComputeSettings(device="cpu", precision=given, threads=1))
    assert fabric._precision.precision == spelled
    assert torch.get_num_threads() == 1


def test_auto_measures_both_precisions_and_takes_one():
    trials = []

    def trial():
        trials.append(ViT((120,), (20,), 2, 16, 1, 2))
        return trials[-1]

    fabric = open_fabric(ComputeSettings(device="cpu", threads=1), trial)
    assert len(trials) == 1
    assert fabric._precision.precision in ("32-true", "bf16-mixed")
    assert faster_precision(trial(), "cpu") in ("float32", "bfloat16")


def test_what_was_measured_once_is_chosen_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vit = ViT((120,), (20,), 2, 16, 1, 2)
    first = measured_precision(vit, "cpu")
    other = {"float32": "bfloat16", "bfloat16": "float32"}[first]
    monkeypatch.setattr("biopart.compute.faster_precision", lambda *args: other)
    assert measured_precision(vit, "cpu") == first
    assert measured_precision(ViT((120,), (20,), 2, 32, 1, 2), "cpu") == other


def test_processes_share_the_cores_within_the_limit_of_the_environment(monkeypatch):
    monkeypatch.setattr("biopart.compute.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_each(count) for count in (1, 3, 16)] == [8, 2, 1]
    for limit, expected in {"4": 4, "16": 8, "2,1": 2, "": 8, "0": 8, "many": 8}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        assert threads_each(1) == expected, limit


def test_the_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # as of a container with a limit
    assert cores() == 1


def test_a_cohort_is_held_where_asked_and_mapped_on_a_cpu(small_store):
    source = open_cohort(small_store).source()
    fabric = open_fabric(ComputeSettings(device="cpu", precision="float32", threads=1))
    assert settle(source, ComputeSettings(), fabric) is source
    assert isinstance(settle(source, ComputeSettings(resident=True), fabric), ResidentWindows)


@pytest.mark.slow
# The compiler's own use of deprecated torch and Python interfaces.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_encoder_gives_the_same_tokens_under_the_same_names():
    torch.manual_seed(0)
    vit = ViT((120,), (20,), 2, 16, 1, 2)
    patches = torch.randn(3, 6, 2, 20)
    with torch.no_grad():
        expected, names = vit(patches), list(vit.state_dict())
        compiled(vit, ComputeSettings(compile=True))
        torch.testing.assert_close(vit(patches), expected, rtol=1e-4, atol=1e-5)
    assert list(vit.state_dict()) == names
