"""Disks that are full, read-only, or hold what they should not."""

import hashlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest
import torch
from commands import start
from sweeps import TINY, VARIANTS, Sweep

MIB = 1024 * 1024


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture
def killed(made_once, tmp_path):
    """A sweep that was killed after 45 of its steps: two states of each variant are on disk."""
    place = made_once("killed", lambda place: Sweep(place).killed(45))
    return Sweep(shutil.copytree(place, tmp_path, dirs_exist_ok=True))


@contextmanager
def small_disk(place, size):
    """A file system of its own at `outputs`, of that many bytes; skipped where mounting is not possible."""
    outputs = place / "outputs"
    outputs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(outputs)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs a system on which file systems can be mounted")
    try:
        yield outputs
    finally:
        subprocess.run(["umount", str(outputs)], check=True)


def assert_ends_as_unhurt(sweep, unhurt):
    done = sweep.run(sweep.resumption())
    assert done.returncode == 0, done.stderr
    for name in VARIANTS:
        assert sweep.results(name) == unhurt[name]
    return done


def test_a_full_disk(sweep, unhurt):
    with small_disk(sweep.place, 3 * MIB) as outputs:
        filler = outputs / "filler"
        process = sweep.held(20)
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        sweep.pace(20, 0)
        _, errors = process.communicate()
        sweep.let_go()
        assert process.returncode == 1
        assert errors.count("\n") == 1
        assert "cannot be written (No space left on device): make room; go on with: python train.py resume=" in errors
        assert all(sweep.saved_step(name) >= 13 for name in VARIANTS)  # older states are whole
        again = sweep.run(sweep.resumption())  # there is still no room
        assert again.returncode == 1
        assert again.stderr.count("\n") == 1
        assert "No space left on device" in again.stderr
        filler.unlink()
        subprocess.run(["mount", "-o", f"remount,size={64 * MIB}", str(outputs)], check=True)
        assert_ends_as_unhurt(sweep, unhurt)


def test_a_full_disk_that_is_met_by_events(sweep):
    """Where no state is due, it is TensorBoard's own thread that meets it."""
    size = [*(each for each in TINY if "every" not in each and "max_epochs" not in each), "checkpoint.every=1h"]
    with small_disk(sweep.place, 3 * MIB) as outputs:
        command = sweep.command("trainer.max_epochs=200000", "trainer.check_val_every_n_epoch=100000", size=size)
        process = sweep.start([*command, "trainer.log_every_n_steps=1"])
        sweep.wait_for(lambda: list(sweep.folder.glob("*/events.*")), process)
        with (outputs / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        _, errors = process.communicate()
        assert process.returncode == 1
        assert errors.count("\n") == 1, errors
        assert "No space left on device" in errors


def test_a_disk_that_is_full_from_the_start(sweep):
    with small_disk(sweep.place, MIB) as outputs:
        (outputs / "filler").write_bytes(bytes(MIB - 40960))
        done = sweep.run()
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "No space left on device" in done.stderr


def test_a_disk_that_becomes_read_only(sweep, unhurt):
    with small_disk(sweep.place, 64 * MIB) as outputs:
        sweep.killed(45)
        subprocess.run(["mount", "-o", "remount,ro", str(outputs)], check=True)
        done = sweep.run(sweep.resumption())
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "Read-only file system" in done.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(outputs)], check=True)
        assert_ends_as_unhurt(sweep, unhurt)


def test_a_quota(sweep, unhurt):
    """A limit on the size of files, since quotas cannot be set up everywhere."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, {resource.RLIM_INFINITY}))\n"
    (sweep.place / "sitecustomize.py").write_text(limit)
    done = sweep.run(fresh=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be written (File too large): make room" in done.stderr
    (sweep.place / "sitecustomize.py").unlink()
    assert_ends_as_unhurt(sweep, unhurt)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[random.Random(0).randrange(200, len(content))] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "a bit": flip_a_bit,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "empty": lambda path: path.write_bytes(b""),
    "something else": lambda path: path.write_bytes(b"losslens-state-1 abc\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state(killed, unhurt, damage):
    path = killed.folder / "loss=red" / "checkpoints" / "state.ckpt"
    DAMAGES[damage](path)
    done = assert_ends_as_unhurt(killed, unhurt)
    assert f"{path} is damaged: it is set aside as state.ckpt.damaged" in done.stdout
    assert path.with_name("state.ckpt.damaged").exists()


def test_both_states_damaged(killed, unhurt):
    for name in ("state.ckpt", "state-before.ckpt"):
        flip_a_bit(killed.folder / "loss=red" / "checkpoints" / name)
    assert_ends_as_unhurt(killed, unhurt)  # it begins again


def test_no_states(killed, unhurt):
    for name in VARIANTS:
        shutil.rmtree(killed.folder / name / "checkpoints")
    assert_ends_as_unhurt(killed, unhurt)


def test_variants_at_different_steps(killed, unhurt):
    """One has lost its latest state: both go on from the one before."""
    (killed.folder / "loss=red" / "checkpoints" / "state.ckpt").unlink()
    assert_ends_as_unhurt(killed, unhurt)


def test_variants_with_no_step_in_common(killed, unhurt):
    first, second = (killed.folder / name / "checkpoints" for name in VARIANTS)
    (first / "state-before.ckpt").unlink()
    (second / "state.ckpt").unlink()
    assert_ends_as_unhurt(killed, unhurt)


class Evil:
    def __reduce__(self):
        return (os.system, ("touch it-ran",))


def test_a_state_that_would_run_code(killed):
    """Even with the right checksum: nothing in it is executed, and its variant fails."""
    path = killed.folder / "loss=red" / "checkpoints" / "state.ckpt"
    encoded = io.BytesIO()
    torch.save({"step": Evil()}, encoded)
    header = path.read_bytes().partition(b"\n")[0].split(b" ")
    header[3] = hashlib.sha256(encoded.getvalue()).hexdigest().encode()
    path.write_bytes(b" ".join(header) + b"\n" + encoded.getvalue())
    done = killed.run(killed.resumption())
    assert done.returncode == 1
    assert not (killed.place / "it-ran").exists()
    assert killed.states() == ["done", "failed"]
    assert "weights_only" not in done.stderr  # nobody is told to switch it off


def test_a_cache_that_would_run_code(tmp_path, monkeypatch):
    import numpy as np

    from losslens.data import cache

    monkeypatch.chdir(tmp_path)
    cache.store("mine", [cache.Decoded(np.zeros((1, 3, 2, 2), np.uint8), [1], 0, [])])
    paths = list(cache.cache_folder().glob("mine.*"))
    assert len(paths) == 2
    for path in paths:
        path.write_bytes(pickle.dumps(Evil()))
        assert cache.load("mine") is None
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("file", ["status.json", "metrics.csv", "grid.png", "data.json", "pictures/00000000.png"])
def test_a_file_of_a_variant_is_gone(killed, unhurt, file):
    path = killed.folder / "loss=red" / file
    if path.exists():
        path.unlink()
    done = killed.run(killed.resumption())
    assert done.returncode == 0, done.stderr
    assert killed.results("loss=red")["weights"] == unhurt["loss=red"]["weights"]
    assert killed.results("loss=red")["metrics"] == unhurt["loss=red"]["metrics"]


def test_the_table_of_contents_is_damaged(killed):
    (killed.folder / "sweep.json").write_text("{ not whole")
    done = killed.run(killed.resumption())
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "sweep.json" in done.stderr


def test_files_are_never_seen_half_written(tmp_path):
    """A reader beside a writer, until it has seen a hundred contents."""
    (tmp_path / "writer.py").write_text(
        "from itertools import count; from pathlib import Path; from losslens.files import write_json\n"
        "for number in count():\n"
        "    write_json(Path('place/file.json'), {'numbers': [number] * 2000})\n"
        "    if Path('enough').exists(): break\n"
    )
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / "file.json"
    process = start(["-m", "writer"], tmp_path)
    seen = set()
    while process.poll() is None:
        if path.exists():
            numbers = json.loads(path.read_text())["numbers"]
            assert len(set(numbers)) == 1
            assert len(numbers) == 2000
            seen.add(numbers[0])
        if len(seen) == 100:
            (tmp_path / "enough").touch()
    assert process.returncode == 0
    assert len(seen) >= 100
    assert list(path.parent.iterdir()) == [path]
