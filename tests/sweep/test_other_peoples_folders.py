"""Folders that somebody else made or damaged: nothing outside is touched, nothing runs, and what is broken is named."""

import csv
import json
import shutil
import sys

import pytest
import torch
from commands import run
from omegaconf import OmegaConf
from rich.console import Console

import losslens
from losslens.report.make import make_report, write_results
from losslens.status import show
from losslens.sweep.queue import QueuedArray, queue_arrays, read_settings, report_marker
from losslens.sweep.stored import Damaged, is_inside, read_settings_file
from losslens.sweep.variants import stored_variants
from losslens.trained.card import code, escaped
from losslens.training.trust import foreign

VARIANTS = [{"name": "loss=l1", "loss": "l1"}, {"name": "loss=red", "loss": "red"}]
DEEP = "[" * 100_000
BILLION = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])


@pytest.fixture
def sweep(write_sweep):
    return write_sweep(VARIANTS)


def change(folder, edit):
    contents = json.loads((folder / "sweep.json").read_text())
    edit(contents["variants"][0])
    (folder / "sweep.json").write_text(json.dumps(contents))


def readers(folder):
    return [
        lambda: losslens.load_sweep(folder),
        lambda: stored_variants(folder),
        lambda: show(folder, Console(quiet=True)),
        lambda: losslens.load_variant(folder),
    ]


@pytest.mark.parametrize("place", ["..", "../victim", "/", "{outside}", "v0/../../victim", "link", "\0"])
def test_a_folder_outside_is_refused_and_untouched(sweep, tmp_path_factory, place):
    outside = tmp_path_factory.mktemp("victim")
    (outside / "config.yaml").write_text("loss: {}\n")
    (outside / ".x.aside-00").write_text("mine")
    (sweep.folder / "link").symlink_to(outside)
    change(sweep.folder, lambda entry: entry.update(folder=place.format(outside=outside)))
    for read in readers(sweep.folder):
        with pytest.raises(ValueError, match=r"sweep.json is damaged \(it names .*, which is not within") as found:
            read()
        assert "\n" not in str(found.value)
    assert sorted(path.name for path in outside.iterdir()) == [".x.aside-00", "config.yaml"]


@pytest.mark.parametrize("name", ["../../x", "..", "/x", "a/../../x", "C:\\x", "..\\x", "", " ", "a\nb", "\x1b[2J"])
def test_a_name_that_leads_elsewhere_is_refused(sweep, name):
    change(sweep.folder, lambda entry: entry.update(name=name))
    for read in readers(sweep.folder):
        with pytest.raises(ValueError, match=r"sweep.json is damaged \(a variant has the name "):
            read()


@pytest.mark.parametrize("place", ["log.txt", "sweep.lock", "arrays", "baselines", "v0/log.txt", "v0/checkpoints"])
def test_links_that_lead_out_are_not_written_through(sweep, tmp_path_factory, place):
    outside = tmp_path_factory.mktemp("victim") / "mine"
    outside.write_text("mine")
    (sweep.folder / place).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{place} is a link that leads out of .*: put what it leads to in its place"):
        stored_variants(sweep.folder)
    assert outside.read_text() == "mine"


def test_links_within_and_links_to_the_folder_are_fine(sweep, tmp_path_factory):
    (sweep.folder / "v0").rename(sweep.folder / "elsewhere")
    (sweep.folder / "v0").symlink_to("elsewhere")
    link = tmp_path_factory.mktemp("links") / "sweep"
    link.symlink_to(sweep.folder)
    assert len(losslens.load_sweep(link).done) == len(stored_variants(link)) == 2
    assert not is_inside(sweep.folder, sweep.folder.parent)


def test_the_marker_of_a_report_names_files_of_the_folder_only(sweep):
    from losslens.report.once import report_once

    marker, _ = report_marker(sweep.folder)
    marker.parent.mkdir()
    (sweep.folder / "sheet.png").touch()
    (sweep.folder.parent / "x.html").touch()
    marker.write_text("sheet.png\n../x.html\n/etc/passwd")
    assert report_once(sweep.folder, print) == [sweep.folder / "sheet.png"]


REST = '"seen": [], "losses": {}, "steps": 1, "seconds": 1}'
BROKEN = {
    "empty": ("status.json", ""),
    "no status": ("status.json", "{}"),
    "another status": ("status.json", '{"status": "sleeping", "reason": null}'),
    "a list": ("status.json", "[]"),
    "deep": ("metrics.json", DEEP),
    "deep enough": ("metrics.json", "[" * 60 + "]" * 60),
    "nan": ("metrics.json", '{"metrics": {"loss": NaN}}'),
    "text for a number": ("metrics.json", '{"metrics": {"loss": "low"}, ' + REST),
    "true for a number": ("metrics.json", '{"metrics": {"loss": true}, ' + REST),
    "binary": ("environment.json", b"\xff\xfe"),
    "no command": ("environment.json", '{"device": "cpu"}'),
    "half a study": ("study.json", '{"codes": {}}'),
    "words": ("metrics.csv", "step,val/loss\n1,low\n"),
    "too many cells": ("metrics.csv", "step\n1,2\n"),
}


@pytest.mark.parametrize(("name", "contents"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_hides_its_own_variant_only(sweep, capsys, name, contents):
    file = sweep.folder / "v0" / name
    file.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    read = losslens.load_sweep(sweep.folder)
    assert read.table.loc["loss=l1", "status"] == "damaged"
    assert str(read.table.loc["loss=l1", "reason"]).startswith(f"{file} is damaged (")
    assert read.table.loc["loss=red", "val/luma"] == 0.1
    show(sweep.folder, Console(width=1000))
    shown = capsys.readouterr().out
    assert f"loss=l1: damaged: {file} is damaged (" in shown
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith(("loss=red ", " loss=red "))] == [
        ["loss=red", "done"]
    ]


CONFIGS = {
    "aliases": (BILLION, "it has aliases"),
    "deep": (DEEP, "nested more than 40 times"),
    "large": ("# " + "x" * 2**20, "it has more than 1 MiB"),
    "python": ("loss: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "no loss": ("seed: 1\n", "it has no loss"),
    "a list": ("- 1\n", "it is no mapping"),
    "half": ("loss: {", "in line"),
    "control characters": ("loss: {a: \x07}", "unacceptable character"),
}


@pytest.mark.parametrize(("contents", "reason"), CONFIGS.values(), ids=CONFIGS)
def test_a_broken_configuration_is_named(sweep, contents, reason):
    file = sweep.folder / "v0" / "config.yaml"
    file.write_text(contents)
    with pytest.raises(Damaged, match=f"config.yaml is damaged .*{reason}") as found:
        stored_variants(sweep.folder)
    assert "\n" not in str(found.value)
    assert losslens.load_sweep(sweep.folder)["loss=l1"].config == {}


def test_the_report_has_all_others(sweep):
    (sweep.folder / "v0" / "config.yaml").write_text(BILLION)
    _, errors = make_report(losslens.load_sweep(sweep.folder), study=False)
    assert [error.partition(" (")[0] for error in errors] == [
        f"loss=l1 is left out: {sweep.folder / 'v0' / 'config.yaml'} is damaged"
    ]
    page = (sweep.folder / "report.html").read_text()
    assert "loss=l1: damaged: " in page
    assert page.count("<article") == 1
    (sweep.folder / "v0" / "config.yaml").write_text("loss: {}\n")
    for picture in (sweep.folder / "v0" / "pictures").iterdir():
        picture.write_text("no picture")
    _, errors = make_report(losslens.load_sweep(sweep.folder), study=False)
    assert len(errors) == 1
    assert "loss=l1 is left out: " in errors[0]


def test_settings_are_read_as_before(tmp_path):
    settings = {
        "loss": {"a": 1.0e-05, "b": "1e-3", "c": "2020-01-01", "d": "yes", "e": None, "f": [1, True, "x y", "ä"]}
    }
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(settings))
    assert read_settings_file(tmp_path / "config.yaml") == settings
    (tmp_path / "config.yaml").write_text("loss: {a: 1e-3, b: 2020-01-01}")
    assert read_settings_file(tmp_path / "config.yaml") == {"loss": {"a": 1e-3, "b": "2020-01-01"}}


def test_reasons_are_text(sweep, capsys):
    (sweep.folder / "v0" / "status.json").write_text(
        json.dumps({"status": "failed", "reason": "[/x] [red] \x1b[2J\r\n back\\"})
    )
    change(sweep.folder, lambda entry: entry.update(name="[/x] [bold]a\\"))
    show(sweep.folder, Console(width=1000))
    shown = capsys.readouterr().out
    assert "[/x] [bold]a\\: failed: [/x] [red]  [2J   back\\" in shown
    assert "\x1b" not in shown


def test_broken_arrays_are_named(sweep):
    (array,) = queue_arrays(sweep.folder, [["loss=l1"]], {"report": False, "fail_fast": False})
    array.heartbeat.write_text('{"variants": {"loss=l1": 3}}')
    show(sweep.folder, Console(quiet=True))
    array.file.write_text('{"variants": "loss=l1"}')
    with pytest.raises(Damaged, match=rf"{array.file.name} is damaged \(variants is no list\)"):
        QueuedArray(array.file).read()
    (array.file.parent / "settings").write_text('{"report": 1}')
    with pytest.raises(Damaged, match=r"settings is damaged \(report is '1'\)"):
        read_settings(sweep.folder)


def test_text_of_tables_is_no_formula(sweep):
    change(sweep.folder, lambda entry: entry.update(name="=1+1", values={"loss": "@SUM(A1)", "seed": -1}))
    loaded = losslens.load_sweep(sweep.folder)
    write_results(loaded, sweep.folder)
    with (sweep.folder / "results.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["variant"], row["loss"], row["seed"]) == ("'=1+1", "'@SUM(A1)", "-1")
    assert json.loads((sweep.folder / "results.json").read_text())[0]["variant"] == "=1+1"


def test_text_of_cards_is_no_markdown():
    assert escaped("loss=luma,model.code_channels=4") == "loss=luma,model.code_channels=4"
    assert escaped("<b>a</b> [x](http://y) *z* |\n# new") == r"&lt;b&gt;a&lt;/b&gt; \[x\](http://y) \*z\* \| # new"
    assert (code("a.onnx"), code("a`b")) == ("`a.onnx`", "`` a`b ``")


MARK = "raise SystemExit('it ran')\n"
FOREIGN = {"_target_": "somebody.Loss"}


NOT_MADE = [
    "os.system",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "torch.os.system",
    "builtins.eval",
    "somebody.X",
    "torch.nn.Absent",
    "losslens",
    "losslens.sweep.variants.subprocess.Popen",
    "losslens.files.write_text",
    "losslens.training.logger.RunLogger",
    "torch.serialization.pickle.Unpickler",
    "${oc.env:HOME}",
    "torchelse.nn.Linear",
]


def test_what_is_foreign():
    known = {
        "model": {"_target_": "losslens.models.Autoencoder", "layers": [{"_target_": "torch.nn.LeakyReLU"}]},
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True},
        "schedule": {"_target_": "torch.optim.lr_scheduler.OneCycleLR"},
        "data": {"_target_": "losslens.data.Photos"},
        "loss": {"_target_": "losslens.losses.ssim.SSIM"},
    }
    assert foreign(known) == []
    for target in NOT_MADE:
        assert foreign({**known, "loss": {"a": [{"_target_": target}]}}) == [target]
    assert foreign({"view": "${oc.create:{_target_:os.getcwd}}"}) == ["${oc.create:{_target_:os.getcwd}}"]


@pytest.fixture
def foreign_sweep(trained_sweep, tmp_path, monkeypatch):
    """A trained sweep, of which one variant names a module that ends the program where it is imported."""
    folder = tmp_path / "sweep"
    shutil.copytree(trained_sweep, folder)
    (tmp_path / "somebody.py").write_text(MARK)
    monkeypatch.syspath_prepend(tmp_path)
    variant = folder / "loss=red,seed=1"
    config = OmegaConf.to_container(OmegaConf.load(variant / "config.yaml"))
    (variant / "config.yaml").write_text(OmegaConf.to_yaml({**config, "loss": FOREIGN}))
    checkpoint = torch.load(variant / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["loss"] = FOREIGN
    torch.save(checkpoint, variant / "checkpoints" / "last.ckpt")
    yield folder
    sys.modules.pop("somebody", None)


def test_no_code_of_others_runs_without_trust(foreign_sweep, tmp_path):
    path = foreign_sweep / "loss=red,seed=1"
    with pytest.raises(ValueError, match=r"last.ckpt names somebody.Loss, .*: nothing of it is run; if you trust"):
        losslens.load_variant(path)
    assert "somebody" not in sys.modules
    sweep = losslens.load_sweep(foreign_sweep)
    assert sweep["loss=red,seed=1"].foreign == ["somebody.Loss"]
    _, errors = make_report(sweep)
    assert errors == []
    assert (
        "loss=red,seed=1 is not studied: its configuration names somebody.Loss"
        in (foreign_sweep / "report.html").read_text()
    )
    with pytest.raises(SystemExit, match="it ran"):
        losslens.load_variant(path, trust=True)


def test_the_commands_say_what_would_run(foreign_sweep, tmp_path):
    path = foreign_sweep / "loss=red,seed=1"
    for command in (
        ["export.py", f"variant={path}", "format=safetensors"],
        ["reconstruct.py", f"variant={path}", "images=x"],
    ):
        done = run(command, tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {path}/checkpoints/last.ckpt names somebody.Loss, which is no class of")
        assert "trust=true" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "it ran" in run([*command, "trust=true"], tmp_path).stderr
    (path / "status.json").write_text('{"status": "failed", "reason": "mine"}')
    done = run(["train.py", f"resume={foreign_sweep}", "report=false"], tmp_path)
    assert "this runs what the configurations name: somebody.Loss\n" in done.stdout
