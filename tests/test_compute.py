import pytest
import torch

from biopart.compute import faster_precision, open_fabric, settle
from biopart.data import ResidentSource, open_cohort
from biopart.nn import ViT
from biopart.recipe import ComputeSettings


def test_a_device_that_is_not_there_is_refused():
    for name in ("tpu", "cuda:99"):
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        with pytest.raises(ValueError, match=r"is not there; give auto, cpu or cuda:N"):
            open_fabric(ComputeSettings(device=name))


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


def test_a_cohort_is_held_where_asked_and_mapped_on_a_cpu(small_store):
    source = open_cohort(small_store).source()
    fabric = open_fabric(ComputeSettings(device="cpu", precision="float32", threads=1))
    assert settle(source, ComputeSettings(), fabric) is source
    assert isinstance(settle(source, ComputeSettings(resident=True), fabric), ResidentSource)
