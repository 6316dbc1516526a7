"""Every block of the tutorial runs as it stands, one after another."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)


@pytest.mark.slow("trains all that the tutorial trains")
def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "reconstruct.py", "export.py", "conf", "docs"):  # as in a checkout
        os.symlink(ROOT / name, tmp_path / name)
    names: dict = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "tutorial", "exec"), names)
            continue
        program, *arguments = shlex.split(block)
        assert program == "python"
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    assert len(BLOCKS) == 10
    assert names["found"]["luma"] > 0.9 > names["found"]["l1"]
    assert len(list(tmp_path.glob("outputs/reconstructions/*/loss=*/photograph.png"))) == 9
    assert len(list(tmp_path.glob("outputs/exports/*/*.onnx"))) == 1
