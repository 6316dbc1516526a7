"""Damaged pictures are refused with a reason, or give a picture: no crash, no hang, no exhausted memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GIB = 2**30


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 50), *(pytest.param(seed, 500, marks=pytest.mark.slow("reads 500 pictures")) for seed in range(1, 5))],
)
def test_mutated_pictures(tmp_path, seed, count):
    script = Path(__file__).with_name("mutated_pictures.py")
    command = [sys.executable, str(script), str(seed), str(count), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert found["bytes"] < 2 * GIB
    assert min(found["read"], found["refused"]) > count // 10
