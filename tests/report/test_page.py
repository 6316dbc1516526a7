"""The report as a person meets it, in a browser."""

import json
import re

import pytest
from conftest import quiet_page

from losslens.report import page as page_module
from losslens.report.make import make_report

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def folder(write_sweep):
    sweep = write_sweep(
        [
            {"name": "loss=l1", "loss": "l1", "red": 0.04, "luma": 0.011, "losses": {"red": 0.04}},
            {"name": EVIL, "loss": "red", "red": 0.03, "green": 0.27, "losses": {"l1": 0.2, "red": 0.03}},
            {"name": "loss=cb", "loss": "cb", "red": 0.123456, "losses": {"l1": 0.3, "red": 0.3}},
            {"name": "stopped", "loss": "red", "seed": 1, "status": "failed"},
            {"name": "waiting", "loss": "red", "seed": 2, "status": "pending"},
        ]
    )
    shown, errors = make_report(sweep, details=True)
    assert errors == []
    assert [path.name for path in shown] == ["sheet.png", "details.png", "report.html"]
    return sweep.folder


@pytest.fixture(params=[1280, 390])
def page(request, folder, browser):
    with quiet_page(browser, folder / "report.html", request.param) as page:
        yield page


@pytest.mark.browser
def test_nothing_is_cut_off_and_every_picture_decoded(page):
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    widths = page.evaluate("[...document.querySelectorAll('main img')].map(image => image.naturalWidth)")
    assert len(widths) == 1 + 4  # the sheet, and each variant that has pictures
    assert min(widths) > 0
    alts = page.evaluate("[...document.querySelectorAll('main img')].map(image => image.alt)")
    assert all(alts)
    assert page.locator("figure svg").count() == 1 + 4


@pytest.mark.browser
def test_names_are_text(page):
    assert page.locator("h3", has_text=EVIL).count() == 1
    assert page.locator(".failed").all_inner_texts() == ["stopped: failed: <b>why</b>", "waiting: pending"]
    assert page.locator("pre").inner_text().strip() == "python train.py -m loss=l1,red 'x=a b'"


@pytest.mark.browser
def test_columns_sort_by_click_and_by_key(page):
    table = page.locator("#all table")
    heading = table.locator("th button", has_text=re.compile("^red$"))
    names = table.locator("tbody th")
    heading.click()
    assert names.all_inner_texts()[:3] == [EVIL, "loss=l1", "stopped"]
    assert names.all_inner_texts()[-1] == "waiting"  # has no number
    heading.press("Enter")
    assert names.all_inner_texts()[0] == "loss=cb"
    assert names.all_inner_texts()[-1] == "waiting"
    sort = table.locator("thead th").evaluate_all("cells => cells.map(cell => cell.ariaSort)")
    assert [state for state in sort if state != "none"] == ["descending"]


@pytest.mark.browser
def test_the_sheet_enlarges_and_goes_back(page):
    button = page.locator(".zoom").first
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").evaluate("dialog => dialog.open")
    assert page.locator("dialog img").evaluate("image => image.naturalWidth") > 400
    page.keyboard.press("Escape")
    assert not page.locator("dialog").evaluate("dialog => dialog.open")
    assert button.evaluate("button => button === document.activeElement")


@pytest.mark.browser
def test_dark_and_light(page):
    colors = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colors.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colors[0] == "rgb(255, 255, 255)"
    assert colors[0] != colors[1]


def test_numbers_are_those_of_the_folders(folder):
    """Each number of the page has the whole of it beside what is shown."""
    page = (folder / "report.html").read_text()
    assert EVIL not in page
    for number in range(3):
        results = json.loads((folder / f"v{number}" / "metrics.json").read_text())
        for value in (*results["metrics"].values(), *results["losses"].values()):
            assert f'data-value="{value}"' in page
    assert 'data-value="0.123456" style="--heat: 1.0">0.123</td>' in page
    assert 'data-value="0.011"' in page
    assert "Determined: red (error 0.030, 15% of the variation)" in page
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    ).replace("http-equiv", "")


def test_a_sweep_that_has_not_begun(write_sweep):
    sweep = write_sweep([{"name": "loss=l1", "loss": "l1", "status": "pending"}])
    shown, errors = make_report(sweep)
    assert errors == []
    assert [path.name for path in shown] == ["report.html"]
    assert "No variant has pictures yet." in shown[0].read_text()


def test_many_variants_have_pages(write_sweep, monkeypatch):
    monkeypatch.setattr(page_module, "VARIANTS_ON_A_PAGE", 2)
    sweep = write_sweep([{"name": f"seed={number}", "loss": "l1", "seed": number} for number in range(5)])
    shown, errors = make_report(sweep, study=False)
    assert errors == []
    assert [path.name for path in shown] == ["sheet.png", "report.html"]
    pages = [(sweep.folder / f"report{ending}.html").read_text() for ending in ("", "-2", "-3")]
    assert not (sweep.folder / "report-4.html").exists()
    for number, page in enumerate(pages):
        assert re.findall(r"<h3>(.*?)</h3>", page) == [f"seed={each}" for each in range(5)[2 * number : 2 * number + 2]]
        assert re.findall(r'<a href="(report.*?)"', page) == ["report.html", "report-2.html", "report-3.html"]
        assert "5 of 5 variants done" in page
    rows = [re.findall(r'<th scope="row" data-value="(seed=\d)">', page) for page in pages]
    assert set(rows[0]) == {f"seed={number}" for number in range(5)}  # the tables of all
    assert ['id="cross"' in page for page in pages] == [True, False, False]
