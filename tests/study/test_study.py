"""The study of a real small sweep in its report, as a person meets it."""

import csv
import json
import re
import shutil

import pytest
from conftest import quiet_page

from losslens.report.make import make_report
from losslens.sweep.results import load_sweep

pytestmark = pytest.mark.slow("trains fifteen variants and studies them")
NAME = "loss=luma,seed=1"
RECALL = "code/recall_at_1/isoluminant recoloring"


@pytest.fixture(params=[1280, 390])
def page(request, studied_sweep, browser):
    with quiet_page(browser, studied_sweep / "report.html", request.param) as page:
        yield page


@pytest.mark.browser
def test_nothing_is_cut_off_and_every_picture_decoded(page):
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    pictures = page.evaluate("[...document.querySelectorAll('main img')].map(image => [image.naturalWidth, image.alt])")
    assert all(width > 0 and alt for width, alt in pictures)
    for section in ("codes", "colors", "chance"):
        assert page.locator(f"#{section} img").count() >= 1
        assert page.locator(f"nav a[href='#{section}']").count() == 1


@pytest.mark.browser
def test_numbers_are_those_of_study_json(page, studied_sweep):
    study = json.loads((studied_sweep / NAME / "study.json").read_text())
    row = page.locator("#codes tr", has=page.locator("th", has_text=re.compile(f"^{NAME}$")))
    recalls = study["codes"]["recall"]["euclidean"]
    cells = row.locator("td").all_inner_texts()
    assert cells[:3] == ["256", *(f"{each['at_1']:.1%}" for each in list(recalls.values())[:2])]
    assert f"{study['codes']['probe']['r2']:.2f}" in cells
    row = page.locator("#colors tr", has=page.locator("th", has_text="loss=red,seed=0"))
    assert row.locator("td").all_inner_texts()[1:3] == ["as drawn", "as drawn"]
    words = page.locator("article", has_text=NAME).first.inner_text()
    assert f"Its codes find {recalls['isoluminant recoloring']['at_1']:.0%} of the originals" in words


@pytest.mark.browser
def test_sorting_by_a_number(page):
    heading = page.locator("#colors th button", has_text="hues kept")
    heading.click()
    first = page.locator("#colors tbody tr").first.locator("th").inner_text()
    assert first.startswith("loss=luma")


def test_results_have_the_numbers(studied_sweep):
    sweep = load_sweep(studied_sweep)
    study = sweep[NAME].study
    value = study["codes"]["recall"]["euclidean"]["isoluminant recoloring"]["at_1"]
    assert sweep.table.loc[NAME, RECALL] == value
    with (studied_sweep / "results.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["variant"] == NAME)
    assert float(row[RECALL]) == value
    assert float(row["color/two_color_index"]) == study["two_color_index"]["reconstructions"]
    assert float(row["color/hue_kept"]) == study["hue_kept"]


def test_a_study_is_the_same_again(studied_sweep, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(studied_sweep, folder)
    before = {path: path.read_bytes() for path in folder.glob("*/study.json")}
    assert len(before) == len(load_sweep(folder).done)
    _, errors = make_report(load_sweep(folder))
    assert errors == []
    assert {path: path.read_bytes() for path in before} == before


def test_the_report_leaves_what_it_reads_and_reads_a_study_of_the_version_before(studied_sweep, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(studied_sweep, folder)
    table = load_sweep(folder).table
    for file in folder.glob("*/study.json"):  # where it was kept before
        numbers = file.with_name("metrics.json")
        numbers.write_text(json.dumps({**json.loads(numbers.read_text()), "study": json.loads(file.read_text())}))
        file.unlink()
    before = {path: path.read_bytes() for path in folder.glob("*/metrics.json")}
    assert load_sweep(folder).table.equals(table)
    make_report(load_sweep(folder))
    assert {path: path.read_bytes() for path in before} == before
    assert load_sweep(folder).table.equals(table)


def test_changed_data_is_told_and_the_rest_stays(studied_sweep, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(studied_sweep, folder)
    config = folder / "loss=red,seed=0" / "config.yaml"
    config.write_text(config.read_text().replace("val_size: 252", "val_size: 100"))
    (folder / "loss=red,seed=1" / "checkpoints" / "last.ckpt").unlink()
    _, errors = make_report(load_sweep(folder))
    assert errors == []
    page = (folder / "report.html").read_text()
    assert "loss=red,seed=0 is not studied: its data has changed since" in page
    assert "loss=red,seed=1 is not studied: loss=red,seed=1 has no checkpoint" in page
    assert "loss=red,seed=2" in page
