import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from losslens.files import claim, write, write_json
from losslens.sweep.variants import environment


def test_the_same_second_gives_different_folders(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(claim, [tmp_path / "2026" / "120000-loss=l1"] * 16))
    assert len(set(folders)) == 16
    assert all(folder.is_dir() for folder in folders)
    assert tmp_path / "2026" / "120000-loss=l1-2" in folders


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match=r"cannot write .*file.* hydra.run.dir=FOLDER"):
            claim(path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=r"cannot write .*Permission denied"):
        claim(tmp_path / "run")


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"status": "running"})

    def fail(aside):
        aside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(path, fail)
    assert json.loads(path.read_text()) == {"status": "running"}
    assert list(tmp_path.iterdir()) == [path]


def test_environment_names_versions_and_command():
    facts = environment("cpu")
    assert facts["packages"]["torch"]
    assert facts["device"] == "cpu"
    assert isinstance(facts["command"], list)
    json.dumps(facts)
