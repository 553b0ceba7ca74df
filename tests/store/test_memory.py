"""The memory of a training process does not grow with the store, nor with how much of it was read."""

import subprocess
import sys
from pathlib import Path

import pytest

MADE = Path(__file__).parent.parent / "made"
PROGRAM = """
import sys
from pathlib import Path
from dcase_seld.store.batches import Batches
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store
sys.path.insert(0, sys.argv[2])
from noise import noise_store

def resident():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) // 1024

store = Store.open(noise_store(Path(sys.argv[1]), 30_000, sparse=True, rows=20))
assert store.audio(29_999).shape == (120_000, 2)
seen = 0
for batch in Batches(StoreSource(store, store.indices("all")), 32, shuffle_seed=0):
    seen += len(batch.index)
    if seen == 320:
        early = resident()
    if seen == 1600:
        break
print(early, resident())
"""


@pytest.mark.slow
def test_30000_clips(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "s"), str(MADE)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    early, late = map(int, done.stdout.split())
    # 1,280 clips of 480 kB were read in between: 614 MB, had they stayed.
    assert late < 2000 and late - early < 150
