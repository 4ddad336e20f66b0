"""Texts of every encoding, and locks that one process holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from biopart.files import held, read_text

TEXT = "é\nW\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_reads_alike(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.replace("\n", end).encode(encoding))
    assert read_text(tmp_path / "a.txt") == TEXT


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\0\0b", "holds zero bytes"),
        (b"\xff\xfea", "is not a text file"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.txt .*{reason}"):
        read_text(tmp_path / "a.txt")


def test_a_lock_is_gone_afterwards_and_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    code = (
        f"from biopart.files import held; from pathlib import Path; import os\n"
        f"with held(Path({str(lock)!r}), 'busy'): print('held', flush=True); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with held(lock, "busy"), pytest.raises(ValueError, match="busy"), held(lock, "busy"):
        pass
    assert not lock.exists()
