"""TensorBoard itself, served on a sweep's folder, as a person meets it."""

import json
import os
import re
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from commands import HANGS, run
from conftest import TINY

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, browser):
    place = tmp_path_factory.mktemp("served")
    done = run(["train.py", "-m", "loss=l1,red", "seed=0,1", *TINY, "report=true", "hydra.sweep.dir=sweep"], place)
    assert done.returncode == 0, done.stderr
    return place / "sweep"


@pytest.fixture(scope="module")
def address(sweep):
    program = "from tensorboard.main import run_main; run_main()"
    command = [sys.executable, "-c", program, "--logdir", sweep, "--host", "localhost", "--port", "0"]
    own = {**os.environ, "TMPDIR": str(sweep.parent)}  # where it leaves a folder
    with subprocess.Popen(command, env=own, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        for line in server.stderr:
            if found := re.search(r"at (http://localhost:\d+/)", line):
                break
        yield found[1]
        server.kill()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1500, "height": 2500})
    page.set_default_timeout(1000 * HANGS)
    yield lambda tab: (page.goto(f"{address}#{tab}"), page)[1]
    page.close()


def test_images(page, sweep):
    """What a person sees without a click: the sheet, and every variant's grids."""
    wanted = {("all variants", ".")}
    for folder in sweep.glob("loss=*"):
        wanted.add(("originals above reconstructions", folder.name))
    shown = page("images")
    loaders = shown.locator("tf-image-loader")
    deadline = time.monotonic() + HANGS
    found: set[tuple[str, str]] = set()
    while not wanted <= found and time.monotonic() < deadline:
        time.sleep(0.5)
        found = {tuple(pair) for pair in loaders.evaluate_all("all => all.map(each => [each.tag, each.run])")}
    assert wanted <= found
    for tag in ("per-channel absolute errors", "pixels of originals and reconstructions in RGB"):
        shown.get_by_text(tag).first.wait_for()
    picture = shown.locator("tf-image-loader img").first
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500


def test_hparams_lists_every_variant_with_its_metrics(page, sweep):
    shown = page("hparams")
    shown.get_by_text("Trial ID").first.wait_for()
    for folder in sweep.glob("loss=*"):
        shown.get_by_text(folder.name, exact=True).first.wait_for()
        loss = json.loads((folder / "metrics.json").read_text())["metrics"]["loss"]
        shown.get_by_text(f"{loss:.5g}", exact=True).first.wait_for()


def test_custom_scalars_and_projector(page, address):
    shown = page("custom_scalars")
    shown.get_by_text("seen and unseen").first.wait_for()
    runs = json.loads(urlopen(f"{address}data/plugin/projector/runs").read())
    assert sorted(runs) == ["loss=l1,seed=0", "loss=l1,seed=1", "loss=red,seed=0", "loss=red,seed=1"]
    info = json.loads(urlopen(f"{address}data/plugin/projector/info?run=loss=red,seed=0").read())
    assert info["embeddings"][0]["sprite"]["singleImageDim"] == [16, 16]
