"""What a document of 200 MB takes: the exact pass over it, in this process's child and that one's workers together."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.planted import prose

EXACT_PASS = """
import sys
from pathlib import Path
from data.catalogue import Catalogue
from data.statistics import statistics
with Catalogue([sys.argv[1]]) as catalogue:
    found = statistics(catalogue, exact_tokens=True, near="exact", cache=Path(sys.argv[2]))
assert not found.errors, found.errors
print(found.documents, found.text_bytes, found.near_duplicate_rows, found.worth_basis)
"""


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    except OSError:
        pass  # ended meanwhile
    return found


def proportional(pid: int) -> int:
    """Memory of a process in bytes, what it shares divided by those who share it."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's accounting of memory")
def test_documents_of_200_mb_stay_below_a_gigabyte_and_a_half(tmp_path: Path) -> None:
    generator = random.Random(3)
    page = prose(generator, 4000)
    # One character beyond U+FFFF, as real text has: as a Python string, each character then takes four bytes.
    giant = "\N{GRINNING FACE} " + "\n".join(f"part {n} {page}" for n in range(200_000_000 // len(page) + 1))
    shards = tmp_path / "shards"
    shards.mkdir()
    for name, first in (("a", "The first words"), ("b", "Some other words")):
        texts = ["a small document of words " * 9, f"{first} {giant}", "another one of words that count " * 9]
        pq.write_table(pa.table({"text": texts}), shards / f"{name}.parquet", compression="zstd")
    size = len(giant.encode())
    assert size >= 200_000_000
    del giant, texts
    child = subprocess.Popen(
        [sys.executable, "-c", EXACT_PASS, str(shards), str(tmp_path / "cache")], stdout=subprocess.PIPE, text=True
    )
    peak, most = 0, 0
    try:
        while child.poll() is None:
            processes = family(child.pid)
            peak, most = max(peak, sum(map(proportional, processes))), max(most, len(processes))
            time.sleep(0.05)
        assert child.stdout is not None
        answer = child.stdout.read().split()
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0
    # The pages repeat and their numbers differ: the giants are near copies, the small documents exact ones.
    assert answer[0] == "6" and int(answer[1]) > 2 * size and answer[2:] == ["1", "exact"]
    assert most > 1 and 300e6 < peak < 1.5e9, f"{peak / 1e6:,.0f} MB in {most} processes"
    print(f"peak {peak / 1e6:,.0f} MB")
