"""Fixtures shared by all tests: where real data lie, small cohorts, seeded generators."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings; skips without BIOPART_REAL_DATA, fails without it in CI."""
    folder = os.environ.get("BIOPART_REAL_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = "set BIOPART_REAL_DATA to the folder of real recordings to run this test"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
