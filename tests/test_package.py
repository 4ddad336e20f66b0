"""What is installed: version, types, shipped recipes and cards; nothing heavy is imported early."""

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import biopart

ROOT = Path(__file__).parents[1]


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_version_is_the_installed_one() -> None:
    assert biopart.__version__ == version("biopart")


def test_the_command_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="biopart")
    assert script.value == "biopart.cli:main"


def test_importing_the_package_loads_neither_torch_nor_timm() -> None:
    assert loaded_after("import biopart") & {"torch", "timm", "numpy", "mne", "wfdb"} == set()


@pytest.mark.parametrize("module", ["signals", "store", "evaluation", "cli", "signals.ingest"])
def test_parts_that_need_no_network_load_no_torch(module: str) -> None:
    loaded = loaded_after(f"import biopart.{module}")
    assert "biopart" in loaded
    assert loaded & {"torch", "timm", "torchvision", "lightning_fabric"} == set()


@pytest.mark.parametrize("module", ["studies.stage", "verbs.pretrain", "verbs.finetune"])
def test_recordings_need_neither_timm_nor_torchvision(module: str) -> None:
    assert loaded_after(f"import biopart.{module}") & {"timm", "torchvision", "torch"} == {"torch"}


def test_public_names_are_listed_and_loaded_when_asked_for() -> None:
    assert set(dir(biopart)) == set(biopart.__all__)
    assert biopart.open_cohort.__module__ == "biopart.data.cohort"


def test_an_unknown_public_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'stages'"):
        biopart.stages  # noqa: B018


def test_types_are_shipped() -> None:
    assert (Path(biopart.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_the_wheel_ships_recipes_cards_and_types(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("biopart-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("recipes", "datasets"):
        ours = {f"biopart/shipped/{folder}/{path.name}" for path in (ROOT / folder).glob("*.yaml")}
        assert ours
        assert ours <= names
    assert "biopart/py.typed" in names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "biopart").rglob("*.py")}
    assert modules <= names
    assert not any(name.startswith("tests/") for name in names)
