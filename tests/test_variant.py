import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from losslens.files import unique
from losslens.overrides import job_values
from losslens.variant import MAX_LENGTH, folder_name, safe_name, varied_values

CHOICES = {"loss": "l1", "loss/view": "luma", "loss/distance": "mse", "model": "small", "data": "photos"}


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ([], {"loss": "l1"}),
        (["loss=l1", "seed=3"], {"loss": "l1", "seed": "3"}),
        (["loss/view=luma"], {"loss": "luma-mse"}),
        (
            ["loss/view=luma", "loss/distance=mse", "loss.view.standard=709"],
            {"loss": "luma-mse", "view.standard": "709"},
        ),
        (["loss._target_=torch.nn.SmoothL1Loss", "+loss.beta=0.5"], {"loss": "SmoothL1Loss", "beta": "0.5"}),
        (["+trainer.profiler=simple", "~trainer.callbacks"], {"loss": "l1", "trainer.profiler": "simple"}),
    ],
)
def test_job_values(overrides, values):
    assert job_values(overrides, CHOICES) == values


def test_names_say_what_differs():
    jobs = [{"loss": loss, "seed": seed, "model": "large"} for loss in ("l1", "luma") for seed in ("0", "1")]
    names = [folder_name(values) for values in varied_values(jobs)]
    assert names == ["loss=l1,seed=0", "loss=l1,seed=1", "loss=luma,seed=0", "loss=luma,seed=1"]


def test_the_loss_where_nothing_differs():
    assert varied_values([{"loss": "l1", "seed": "0"}]) == [{"loss": "l1"}]


def test_equal_variants_are_numbered():
    assert unique(["loss=l1", "loss=L1", "loss=l1"]) == ["loss=l1", "loss=L1-2", "loss=l1-3"]


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=4))
def test_any_values_make_one_safe_folder_name(values):
    name = folder_name(values)
    assert 0 < len(name.encode()) <= MAX_LENGTH
    assert name not in (".", "..")
    assert not set(name) & set('/\\:*?"<>| \n')
    assert not name.startswith((".", "-"))


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b", "a-3"]), max_size=8))
def test_unique_names_are_unique_without_case(names):
    assert len({name.casefold() for name in unique(names)}) == len(names)


@pytest.mark.parametrize(
    "name", ["loss=l1,seed=0", "実験一", "Größe=2", "हिन्दी", "эксперимент", "x" * MAX_LENGTH, "optimizer.lr=1e-3"]
)
def test_safe_names_stay_as_they_are(name):
    assert safe_name(unicodedata.normalize("NFC", name)) == unicodedata.normalize("NFC", name)
    assert safe_name(unicodedata.normalize("NFD", name)) == unicodedata.normalize("NFC", name)


@given(st.lists(st.text(alphabet="ab -/.é実🙂\\", max_size=4) | st.text(), min_size=2, max_size=6))
def test_two_names_are_never_one_folder(names):
    different = {unicodedata.normalize("NFC", name) for name in names}
    assert len({safe_name(name) for name in names}) == len(different)


def test_what_was_quoted_for_hydra_is_named_without_the_quotes():
    assert job_values(["data.root='my photos'"], CHOICES) == {"loss": "l1", "data.root": "my photos"}
    assert job_values(["data.root='it\\'s'"], CHOICES) == {"loss": "l1", "data.root": "it's"}


def test_long_names_stay_apart():
    first, second = (folder_name({"data.root": "x" * 200 + end}) for end in "ab")
    assert first != second
