"""The lens's page as a person meets it, in a browser."""

import json

import pytest
from conftest import quiet_page

from losslens.lens.look import Look, all_pairs
from losslens.lens.picture import read_picture
from losslens.lens.write import write_results
from losslens.losses import LinearView, Loss, Luma
from losslens.losses.distances import RMSE

pytestmark = pytest.mark.browser
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lens")
    losses = {"luma": Loss(Luma(), RMSE()), EVIL: Loss(LinearView([[1, 0, 0]]), RMSE())}
    image, name = read_picture(None, 24)
    look = Look(image=image, losses=losses, rms=0.05, steps=20, tolerance=1e-4, pairs=all_pairs(list(losses)))
    for _, ask in look.pieces():
        ask()
    write_results(look, folder, picture_name=name, command="python lens.py")
    return folder


@pytest.fixture(params=[1280, 390])
def page(request, folder, browser):
    with quiet_page(browser, folder / "lens.html", request.param) as page:
        yield page


def test_nothing_is_cut_off_and_every_picture_decoded(page):
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    pictures = page.evaluate("[...document.querySelectorAll('main img')].map(image => [image.naturalWidth, image.alt])")
    assert len(pictures) > 30
    assert all(width > 0 and alt for width, alt in pictures)


def test_names_are_text_and_numbers_those_of_the_file(page, folder):
    assert page.locator("h2", has_text=EVIL).count() == 1
    losses = json.loads((folder / "blindspots.json").read_text())["losses"]
    row = page.locator("#responses tbody tr", has=page.locator("th", has_text="isoluminant recoloring"))
    shown = row.locator("td.number").evaluate_all("cells => cells.map(cell => +cell.dataset.value)")
    assert shown == [losses[name]["changes"]["isoluminant recoloring"]["relative"] for name in ("luma", EVIL)]
    assert shown[0] < 1e-4 < shown[1]


def test_changes_sort_by_a_loss(page):
    table = page.locator("#responses table")
    heading = table.locator("th button", has_text="luma")
    values = lambda: table.locator("tbody tr").evaluate_all("rows => rows.map(row => +row.cells[2].dataset.value)")  # noqa: E731
    heading.click()
    assert values() == sorted(values())
    heading.press("Enter")
    assert values() == sorted(values(), reverse=True)


def test_a_picture_enlarges_and_goes_back(page):
    page.locator(".zoom").first.click()
    assert page.locator("dialog").evaluate("dialog => dialog.open")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").evaluate("dialog => dialog.open")
