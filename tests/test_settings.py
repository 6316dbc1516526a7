"""Whatever a setting is given, one line names it, or the command does what it says."""

import copy
import math
import re
from functools import cache

import pytest
from commands import run
from conftest import ROOT, TINY
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from losslens.build import build, flat_settings
from losslens.console import one_line
from losslens.overrides import quote_texts, register_resolvers
from losslens.run.plan import plan_variants
from losslens.settings import TABLE, whole, word, written

CONF = ROOT / "conf"
PARSER = OverridesParser.create()
WRONG = [
    "null",
    "-1",
    "0",
    "1.5",
    "1" + 30 * "0",
    "nan",
    "inf",
    "-inf",
    "true",
    "word",
    "''",
    "[]",
    "[1,x]",
    "{a:1}",
    "a b",
]


@cache
def composed(*choices):
    """The configuration of `train.py`, and Hydra's choices."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(choices), return_hydra_config=True)
    task = OmegaConf.masked_copy(config, [str(each) for each in config if each != "hydra"])
    return task, OmegaConf.to_container(config.hydra.runtime.choices)


def keys_in(file, prefix=""):
    """The keys of a yaml, with dots."""
    flat = flat_settings(OmegaConf.to_container(OmegaConf.load(file)), prefix)
    return [key for key in flat if not key.endswith(("_target_", "_partial_", "_args_", "defaults"))]


def all_keys():
    """Each key of each choice, with what makes the choice."""
    found = {("", key): () for key in keys_in(CONF / "train.yaml") if not key.startswith("hydra.")}
    for group in ("data", "model", "optimizer", "schedule", "trainer", "loss", "loss/view", "loss/distance"):
        for file in (CONF / group).glob("*.yaml"):
            more = {"folder": ("data.root=x",), "arrays": ("data.path=x",)}.get(file.stem, ())
            for key in keys_in(file, f"{group.replace('/', '.')}."):
                found[f"{group}={file.stem}", key] = (f"{group}={file.stem}", *more)
    return found


def choices_of(group):
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


KEYS = all_keys()


def test_every_key_is_in_the_table():
    classes = {each.partition(".")[0] for each in TABLE}
    others = {"baselines", "checkpoint.every", "loss.weights", *WEIGHTS}
    for (_, key), choices in KEYS.items():
        name = key.rpartition(".")[2]
        short = f"loss.{name}" if key.startswith("loss.") else key
        known = short in TABLE or any(f"{each}.{name}" in TABLE for each in classes)
        assert known or short in others, (key, choices)
    for file in ("lens", "reconstruct", "export"):
        keys = {str(key) for key in OmegaConf.load(CONF / f"{file}.yaml")} - {"defaults", "hydra", "losses"}
        assert keys <= set(TABLE)
    for file in (CONF / "hydra" / "launcher").glob("*.yaml"):
        assert set(keys_in(file, "hydra.launcher.")) <= set(TABLE)


WEIGHTS = {f"loss.{name}" for name in ("l1", "ssim", "ms_ssim")}  # of a mix, by the names of its terms


def planned(tmp_path, choices, key, value):
    config, chosen = composed(*choices)
    config = copy.deepcopy(config)
    (quoted,) = quote_texts([f"key={value}"])
    OmegaConf.update(config, key, PARSER.parse_override(quoted).value(), merge=False)
    return plan_variants([(config, [], chosen)], tmp_path, single=True)


def is_one_good_line(message, key):
    names_it = key in message or key.rpartition(".")[2] in message
    return names_it and "\n" not in message and "Error" not in message and len(message) < 600


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(KEYS)), st.sampled_from(WRONG))
def test_a_wrong_value_is_told_in_one_line(tmp_path, place, value):
    message = None
    try:
        planned(tmp_path, KEYS[place], place[1], value)
    except Exception as error:
        message = one_line(error)
    assert message is None or is_one_good_line(message, place[1]), message


@pytest.mark.slow("runs commands for minutes")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(each for each in KEYS if each[0] == "" or not each[0].startswith(("data=", "loss")))),
    st.sampled_from(WRONG),
)
def test_a_wrong_value_is_told_in_one_line_by_the_command(tmp_path, place, value):
    tiny = [each for each in TINY if not each.startswith(place[1] + "=")]
    done = run(["train.py", *KEYS[place], *tiny, f"{place[1]}={value}"], tmp_path)
    if done.returncode:
        assert done.stderr.count("\n") == 1
        assert is_one_good_line(done.stderr.rstrip("\n"), place[1]), done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=shapes", "data.image_size=0"], "data.image_size is 0: use a whole number of 1 or more, up to 100000"),
        (["data=folder", "data.root=null"], "data.root is null: use a text"),
        (["seed=null"], "seed is null: use a whole number of 0 or more, up to 9223372036854775807"),
        (["trainer.max_epochs=0"], "trainer.max_epochs is 0: use null, or a whole number of 1 or more, or -1"),
        (["trainer.max_steps=1e3"], "trainer.max_steps is 1000.0: use a whole number of 1 or more, or -1"),
        (["trainer.max_steps=-1"], "trainer.max_steps is -1: use a whole number of 1 or more, or trainer.max_epochs"),
        (
            ["trainer.limit_train_batches=0"],
            "trainer.limit_train_batches is 0: use null, or a whole number of 1 or more, or a share such as 0.5",
        ),
        (["optimizer.lr=nan"], "optimizer.lr is nan: use a number of 0 or more"),
        (["report=maybe"], "report is maybe: use true or false"),
        (["model={a:1}"], "model is {'a': 1}: use a choice of conf/model, or a class, as its _target_"),
        (["loss/view=cb", "loss.view.parts=[cb,x]"], "loss.view.parts is ['cb', 'x']: use [cb], [cr] or [cb,cr]"),
        (["sweep="], "sweep is empty: use null, or a name"),
        (["resume=null"], None),
    ],
)
def test_one_form_of_message(tmp_path, arguments, message):
    *choices, last = arguments
    if message is None:
        planned(tmp_path, choices, *last.split("="))
        return
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        planned(tmp_path, choices, *last.split("=", 1))


@pytest.mark.parametrize("group", ["model", "loss", "data", "optimizer", "trainer", "loss/view"])
def test_no_choice_of_a_group(group):
    with pytest.raises(ValueError, match=f"^{group} is null: use a choice of conf/{group}$"):
        quote_texts([f"{group}=null"])


def test_no_schedule(tmp_path):
    assert quote_texts(["schedule=null"]) == ["~schedule"]
    config, chosen = composed("~schedule")
    (variant,) = plan_variants([(config, [], chosen)], tmp_path, single=True)
    assert variant.config["schedule"] is None


@pytest.mark.parametrize("experiment", choices_of("experiment"))
@pytest.mark.parametrize("data", choices_of("data"))
def test_a_preset_works_with_every_data_set(tmp_path, experiment, data):
    given = {"folder": ("data.root=x",), "arrays": ("data.path=x",)}.get(data, ())
    config, chosen = composed(f"experiment={experiment}", f"data={data}", *given)
    (variant,) = plan_variants([(config, [], chosen)], tmp_path, single=True)
    assert variant.config["data"]["batch_size"] == build(variant.config["data"]).batch_size


def test_what_is_written():
    assert [written(each) for each in (None, True, "", 1.0, math.nan)] == ["null", "true", "empty", "1.0", "nan"]
    assert written("x" * 200) == 80 * "x" + "..."
    assert (word("a", "b", None) | whole(1)).use == "a, b or null, or a whole number of 1 or more"
