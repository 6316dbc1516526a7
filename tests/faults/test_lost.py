"""What a sweep needs is gone: a variant's folder, its results, its data, its directory, its terminal, its output."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, run
from PIL import Image
from sweeps import SIZE, UNPACED, VARIANTS, Sweep

from losslens.console import one_line
from losslens.run.signals import stopped_by_signals
from losslens.training.stop import Stop


def test_a_folder_that_was_deleted_is_left_out_and_trained_anew_on_request(tmp_path, unhurt):
    sweep = Sweep(tmp_path)
    sweep.killed(30)
    shutil.move(sweep.folder / "loss=l1", tmp_path / "aside")
    done = sweep.run(sweep.resumption())
    assert done.returncode == 0, done.stderr
    told = "loss=l1 is left out, since its folder is not there: bring it back, or train it anew with the command that "
    assert done.stdout.count(told) == 1
    assert sweep.results("loss=red")["weights"] == unhurt["loss=red"]["weights"]
    anew = ["train.py", "-m", "loss=l1,red", *UNPACED, "+callbacks.pace={_target_:pace.Pace}"]
    done = sweep.run([*anew, f"hydra.sweep.dir={sweep.folder}"])
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stdout
    assert sweep.results("loss=l1")["weights"] == unhurt["loss=l1"]["weights"]


def test_a_folder_that_is_brought_back_goes_on(tmp_path, unhurt):
    sweep = Sweep(tmp_path)
    sweep.killed(30)
    shutil.move(sweep.folder / "loss=l1", tmp_path / "aside")
    assert sweep.run(sweep.resumption()).returncode == 0
    shutil.move(tmp_path / "aside", sweep.folder / "loss=l1")
    (sweep.folder / "loss=red" / "metrics.json").unlink()  # lost, and measured anew
    assert sweep.run(sweep.resumption()).returncode == 0
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]
    for name in VARIANTS:
        shutil.rmtree(sweep.folder / name)
    done = sweep.run(sweep.resumption())
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {sweep.folder} has none of its variants: bring back loss=")


def test_a_sweep_goes_on_from_anywhere_once_its_data_is_there(tmp_path):
    sweep = Sweep(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    size = ["data=folder", "data.root=photos", "data.image_size=16", "trainer=cpu", "trainer.max_steps=40"]
    sweep.killed(10, sweep.command("+callbacks.pace={_target_:pace.Pace}", "checkpoint.every=5steps", size=size))
    before = sweep.states()
    (tmp_path / "photos").rename(tmp_path / "away")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for _ in range(2):
        done = run(sweep.resumption(), elsewhere, PYTHONPATH=str(tmp_path))
        assert done.returncode == 1
        assert "interrupted: loss=red waits for its data: photos is not a folder" in done.stderr
        assert sweep.states() == before
    (tmp_path / "away").rename(tmp_path / "photos")
    done = run(sweep.resumption(), elsewhere, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sweep.states() == ["done", "done"]
    assert "trains from step" in (sweep.folder / "loss=l1" / "log.txt").read_text()
    assert "root: photos\n" in (sweep.folder / "loss=l1" / "config.yaml").read_text()


def test_a_terminal_that_is_closed(tmp_path):
    sweep = Sweep(tmp_path)
    process = sweep.held(20)
    process.send_signal(signal.SIGHUP)
    sweep.let_go()
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGHUP
    assert errors.startswith("interrupted: SIGHUP; go on with: python train.py resume=")
    assert sweep.states() == ["interrupted", "interrupted"]
    assert sweep.saved_step() >= 20


@pytest.mark.parametrize(("before", "stops"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_nohup_stays_in_force(before, stops):
    stop, old = Stop(), signal.signal(signal.SIGHUP, before)
    try:
        with stopped_by_signals(stop), stop.awaited():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, old)
    assert bool(stop) == stops


@pytest.mark.parametrize("end", ["| head -1", ">&- 2>&-", "> /dev/full"])
def test_output_that_goes_away_stops_nothing(tmp_path, end):
    command = [sys.executable, ROOT / "train.py", "loss=l1", *SIZE, "trainer=cpu", "trainer.max_steps=8"]
    command += ["report=false", "hydra.run.dir=run"]
    shell = " ".join(str(each) for each in command)
    done = subprocess.run(f"{shell} {end}", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stdout == (f"1 variant in {tmp_path / 'run'}\n" if "head" in end else "")
    assert json.loads((tmp_path / "run" / "status.json").read_text()) == {"status": "done", "reason": None}
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "1 variant in " in log
    assert "loss=l1: loss " in log


def test_a_message_has_a_text_and_no_noise():
    from omegaconf import OmegaConf

    config = OmegaConf.create({"hydra": {"dir": "${nothing}"}, "data": {"seed": "${nothing}"}})
    told = []
    for read in (lambda: config.hydra.dir, lambda: config.data.seed, lambda: check_nothing(), lambda: {}["a"]):
        try:
            read()
        except Exception as error:
            told.append(one_line(error))
    assert told[0] == "Interpolation key 'nothing' not found"
    assert told[1] == "data.seed: Interpolation key 'nothing' not found"
    assert told[2].startswith(f"AssertionError in {__file__}, line ")
    assert told[3] == "KeyError: 'a'"


def check_nothing():
    raise AssertionError
