"""What a command imports: those that compute nothing load neither torch nor what it brings."""

import subprocess
import sys
from pathlib import Path

import pytest

from biopart.run import Run

HEAVY = ("torch", "torchvision", "timm", "lightning_fabric")
CODE = """
import sys
from biopart.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
except SystemExit as end:
    assert end.code in (None, 0), end.code
print("|" + " ".join(name for name in sys.modules if "." not in name))
"""


def imported(*arguments: object) -> set[str]:
    """Run a command in a process of its own and return the packages that it imported."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("|")[2].split())


@pytest.mark.parametrize("arguments", [("info", "demo"), ("info", "cifar10"), ("info", "--schema")])
def test_describing_a_recipe_or_card_imports_neither_torch_nor_arrays_on_disk(
    arguments: tuple[str, ...],
) -> None:
    assert imported(*arguments) & {*HEAVY, "zarr", "xarray", "scipy", "sklearn", "mne"} == set()


def test_stores_and_runs_are_described_and_checked_without_torch(
    simulated_store: Path, small_run: Run
) -> None:
    for arguments in (
        *(("info", simulated_store), ("check", simulated_store), ("check", "demo")),
        *(("info", small_run.path), ("check", small_run.path)),
    ):
        assert imported(*arguments) & set(HEAVY) == set(), arguments


def test_preparing_and_simulating_import_no_torch(simulated_raw: Path, tmp_path: Path) -> None:
    store, raw = tmp_path / "new.zarr", tmp_path / "raw"
    prepare = ("prepare", "physionet2018", "--raw", simulated_raw, "--out", store)
    simulate = ("simulate", raw, "--persons", 1, "--hours", 0.2)
    assert imported(*prepare) & set(HEAVY) == set()
    assert imported(*simulate) & set(HEAVY) == set()
