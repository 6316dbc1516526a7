"""What a sweep lets anybody check, on a real small one: what codes keep, where colors come from, what is chance."""

import json

import pytest
import torch
from commands import run as run_command
from conftest import the_only

from losslens.lens.chance import chance
from losslens.lens.changes import ISOLUMINANT
from losslens.losses.loss import linear_view
from losslens.sweep.results import load_sweep

pytestmark = pytest.mark.slow("trains fifteen variants and studies them")
COLORS = ("red", "green", "blue")
SEEDS = range(3)


@pytest.fixture(scope="module")
def sweep(studied_sweep):
    return load_sweep(studied_sweep)


@pytest.fixture(scope="module")
def studies(sweep):
    return {name: variant.study for name, variant in sweep.variants.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("color", COLORS)
def test_unseen_rows_are_as_the_seed_drew_them(studies, color, seed):
    channels = studies[f"loss={color},seed={seed}"]["moved"]["channels"]
    assert {name for name, change in channels.items() if change == 0} == set(COLORS) - {color}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_luma_does_not_see_of_the_rows_is_as_the_seed_drew_it(studies, seed):
    found = studies[f"loss=luma,seed={seed}"]["moved"]
    assert found["unseen"] < 1e-3 < 0.1 < min(found["channels"].values())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", ["luma", *COLORS])
def test_pictures_have_two_colors(studies, loss, seed):
    index = studies[f"loss={loss},seed={seed}"]["two_color_index"]
    assert index["reconstructions"] > 0.9 > index["originals"]
    l1 = studies[f"loss=l1,seed={seed}"]["two_color_index"]
    assert l1["reconstructions"] == pytest.approx(l1["originals"], abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_luma_codes_find_isoluminant_copies_and_others_do_not(studies, seed):
    luma, l1 = (studies[f"loss={loss},seed={seed}"] for loss in ("luma", "l1"))
    found, control = (each["codes"]["recall"]["euclidean"][ISOLUMINANT]["at_1"] for each in (luma, l1))
    untrained = luma["untrained_codes"]["recall"]["euclidean"][ISOLUMINANT]["at_1"]
    assert found > 0.95
    assert found > 1.5 * max(control, untrained)
    assert luma["codes"]["sensitivity"][ISOLUMINANT] < 0.3 * l1["codes"]["sensitivity"][ISOLUMINANT]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_probe_reads_less_color_from_codes_of_luma(studies, seed):
    luma, l1 = (studies[f"loss={loss},seed={seed}"]["codes"]["probe"] for loss in ("luma", "l1"))
    assert l1["r2"] > 0.95
    assert luma["r2"] < l1["r2"] - 0.1
    assert max(luma["shuffled"], l1["shuffled"]) < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_hues(studies, seed):
    assert studies[f"loss=l1,seed={seed}"]["hue_kept"] > 0.95
    assert studies[f"loss=luma,seed={seed}"]["hue_kept"] < 0.1


@pytest.fixture(scope="module")
def outputs(sweep):
    """Reconstructions of all variants of each loss, `(S, N, 3, H, W)`, and the loss's view."""
    from losslens.build import build

    images = build(sweep.done[0].config["data"]).decode().val[:64].float() / 255
    found = {}
    for loss in ("l1", "luma", *COLORS):
        modules = [sweep[f"loss={loss},seed={seed}"].load().eval() for seed in SEEDS]
        with torch.no_grad():
            found[loss] = torch.stack([module(images) for module in modules]), linear_view(modules[0].loss)
    return found


@pytest.mark.parametrize("color", COLORS)
def test_seeds_agree_on_what_is_seen_and_on_nothing_else(outputs, color):
    found = chance(*outputs[color])
    for other in set(COLORS) - {color}:
        assert found.channels[color].value < found.channels[other].value / 3
    assert found.ratio.value > 3


def test_seeds_of_l1_agree_on_all_channels(outputs):
    found = chance(*outputs["l1"])
    spreads = [found.channels[color].value for color in COLORS]
    assert max(spreads) < 1.6 * min(spreads)
    assert found.free is None


@pytest.mark.parametrize("loss", ["red", "luma"])
def test_swapped_last_layers_swap_colors_and_leave_the_loss(sweep, outputs, loss):
    import copy

    from losslens.lens.last_layer import swap_unseen

    images = sweep.done[0].originals
    first, second = (sweep[f"loss={loss},seed={seed}"].load().eval() for seed in (0, 1))
    swapped = copy.deepcopy(first)
    view = linear_view(first.loss)
    swap_unseen(swapped.autoencoder, second.autoencoder, view)
    free = view.unseen_axes().float()
    with torch.no_grad():
        assert swapped.loss(swapped(images), images) == pytest.approx(
            float(first.loss(first(images), images)), rel=1e-4
        )
        tints = [free @ module(images).mean((0, 2, 3)) for module in (swapped, first, second)]
    assert (tints[0] - tints[2]).norm() < 0.5 * (tints[0] - tints[1]).norm()  # its tint is now that of the other


def test_the_report_shows_chance(studied_sweep):
    page = (studied_sweep / "report.html").read_text()
    for text in (
        "Chance: the same but for the seed",
        "Initialization and data order vary",
        "free over seen",
        "exchanged",
    ):
        assert text in page
    for name in ("seeds", "seeds-5", "swapped", "neighbors", "recolored", "outputs"):
        assert (studied_sweep / f"{name}.png").is_file()


def run(place, *arguments):
    size = ["data=shapes", "data.image_size=16", "data.batch_size=16", "trainer=cpu"]
    done = run_command(["train.py", "-m", *arguments, *size], place)
    assert done.returncode == 0, done.stderr
    folder = the_only((place / "outputs" / "sweeps").iterdir())
    return folder, {file.parent.name: json.loads(file.read_text()) for file in folder.glob("*/study.json")}


def test_adam_moves_what_luma_does_not_see_where_muon_and_sgd_do_not(tmp_path):
    _, studies = run(tmp_path, "loss=luma", "optimizer=muon,adam,sgd")
    unseen = {name: studies[f"optimizer={name}"]["moved"]["unseen"] for name in ("muon", "adam", "sgd")}
    assert max(unseen["muon"], unseen["sgd"]) < 1e-3
    assert unseen["adam"] > 0.1


def test_data_order_alone(tmp_path):
    """One initialization, several orders: the rows that are not seen are the same, and so is the tint."""
    folder, _ = run(tmp_path, "loss=red", "order_seed=0,1,2")
    sweep = load_sweep(folder)
    layers = [variant.load().autoencoder.output_layer.weight.unflatten(0, (3, -1)) for variant in sweep.done]
    assert len(layers) == 3
    for other in layers[1:]:
        assert torch.equal(other[1:], layers[0][1:])
        assert not torch.equal(other[0], layers[0][0])
    assert "The data order alone varies" in (folder / "report.html").read_text()


def test_a_small_code_drops_color_where_the_loss_does_not_ask_for_it(tmp_path):
    folder, studies = run(tmp_path, "loss=l1,luma", "model.code_channels=1,8")
    probes = {name: study["codes"]["probe"]["r2"] for name, study in studies.items()}
    assert probes["loss=luma,model.code_channels=1"] < probes["loss=l1,model.code_channels=1"]
    assert "R² of mean chroma" in (folder / "report.html").read_text()
