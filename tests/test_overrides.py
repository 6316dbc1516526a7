"""Any text on the command line arrives as it was typed."""

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import example, given
from hypothesis import strategies as st

from losslens.overrides import TEXTS, quote_texts, register_resolvers

PARSER = OverridesParser.create()
AWKWARD = " ()[]{},='\"#%\\é実-:~+/|&\n$"
TEXT = st.text(alphabet=AWKWARD + "ab0", min_size=1, max_size=12).filter(
    lambda text: "${" not in text and text[0] + text[-1] not in ("''", '""', "[]")
)


def read(*arguments):
    """What Hydra makes of each argument: a value, or those that a comma separates."""
    values = []
    for argument in quote_texts(arguments):
        if not argument.startswith("-"):
            override = PARSER.parse_override(argument)
            given = override.value().list if override.is_sweep_override() else override.value()
            values.append([plain(each) for each in given] if isinstance(given, list) else plain(given))
    return values


def plain(value):
    return value.text if isinstance(value, QuotedString) else value


@given(st.sampled_from(TEXTS), TEXT)
@example("data.root", "photos (2020)")
@example("image", "out/loss=l1/x.png")
@example("sweep", "007")
@example("sweep", "true")
@example("resume", "C:\\new\\")
@example("image", "-x.png")
def test_any_text_arrives(key, text):
    assert read(f"{key}={text}") == [text]
    assert read(f"+{key}={text}") == [text]


@given(TEXT, TEXT)
def test_below_m_commas_separate(first, second):
    first, second = (text.replace(",", "").strip() + "." for text in (first, second))
    assert read("-m", f"data.root={first},{second}") == [[first, second]]


@pytest.mark.parametrize("text", ["a, b", "[a,b]", "glob(*)", "null", "'x'"])
@pytest.mark.parametrize("flags", [(), ("-m",)])
def test_what_is_there_is_one_path(tmp_path, monkeypatch, text, flags):
    monkeypatch.chdir(tmp_path)
    (tmp_path / text).mkdir()
    for key in ("data.root", "images", "loss.weights" if "," in text else "image"):
        assert read(*flags, f"{key}={text}") == [text]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("data.root=glob(*)", "glob(*)"),
        ("resume=null", None),
        ("data.root=${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("sweep=a,b", "a,b"),
        ("loss.weights=my file (1).pth", "my file (1).pth"),
        ("loss.weights={ssim:1}", {"ssim": 1}),
        ("optimizer.lr=f(", "f("),
        ("images=[a b,'c,d']", ["a b", "c,d"]),
    ],
)
def test_what_hydra_makes_of_it(argument, value):
    assert read(argument) == [value]


def test_what_hydra_means_below_m_stays():
    arguments = ["-m", "loss=l1,luma", "data.root=choice(a,b)", "data.root='a','b'", "seed=range(3)", "foo", "a b=1"]
    assert quote_texts(arguments) == arguments
    assert read("-m", "sweep=a,b", "resume=a,b") == ["a,b", "a,b"]


@pytest.mark.parametrize("resolver", ["${claim:made}", "${own_folder:null,made}", "${sweep_folder:null,made}"])
def test_a_setting_makes_no_folder(tmp_path, monkeypatch, resolver):
    monkeypatch.chdir(tmp_path)
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["data=folder", f"data.root='{resolver}'"])
    with pytest.raises(
        Exception, match=r"data\.root would make a folder: only hydra\.run\.dir and hydra\.sweep\.dir may"
    ):
        str(config.data.root)
    assert list(tmp_path.iterdir()) == []
