"""Searches with Optuna as a user runs them, on drawn shapes."""

import optuna
import pytest
import torch
from conftest import TINY
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from losslens.run.space import examples, read_space, suggest
from losslens.sweep.pruning import STUDY, open_storage
from losslens.sweep.results import load_sweep

NAN = """
import torch
class NaNLater(torch.nn.Module):
    calls = 0
    def forward(self, input, target):
        self.calls += torch.is_grad_enabled()
        loss = (input - target).abs().mean()
        return loss * float("nan") if self.calls == 3 else loss
"""
SEARCH = ["-m", "hydra/sweeper=optuna", "sweep=mine", "optimizer=adam", *TINY]
RATES = "optimizer.lr=choice(0.3,0.003)"  # with the first, errors grow


@pytest.fixture
def search(train, tmp_path):
    """Run a search; returns the process, its trials, and its sweep."""

    def run(*arguments):
        done = train(*SEARCH, *arguments)
        folder = tmp_path / "outputs" / "sweeps" / "mine"
        trials = optuna.load_study(study_name=STUDY, storage=open_storage(folder)).trials
        return done, trials, load_sweep(folder)

    return run


def test_it_finds_the_better_rate(search, train):
    size = ["optimize=val/loss:min", "hydra.sweeper.n_trials=5", "hydra.sweeper.batch=3", "report=true"]
    done, trials, sweep = search(RATES, *size)
    assert [trial.state for trial in trials] == 5 * [TrialState.COMPLETE]
    assert set(sweep.variants) == {"optimizer.lr=0.3", "optimizer.lr=0.003"}  # equal trials are one variant
    for trial in trials:
        assert trial.value == sweep[trial.user_attrs["variant"]].metrics["loss"]
    best = sweep["optimizer.lr=0.003"]
    assert done.stdout.splitlines()[-1] == (
        f"best of 5 trials: val/loss {best.metrics['loss']:.6g} with optimizer.lr=0.003 "
        f"in outputs/sweeps/mine/{best.name}"
    )
    assert done.stdout.count("* seen by the variant's own loss") == 1  # one table, at the end
    assert (sweep.folder / "report.html").is_file()
    for changed in ("trainer.max_epochs=2", "optimize=val/loss:max"):
        other = train(*SEARCH, RATES, *size, changed, check=False)
        assert other.returncode == 1
        assert "outputs/sweeps/mine holds another search: " in other.stderr
        assert changed.partition("=")[2].rpartition(":")[2] in other.stderr
        assert other.stderr.count("\n") == 1


def test_more_trials_of_a_search(search):
    """Alone in its batch, a trial is called by all that is searched; a longer search begins with the shorter one."""
    words = ["optimize=val/ssim:max", "optimizer.lr=tag(log,interval(1e-3,1e-2))", "seed=range(3)"]
    names = []
    for n_trials in (1, 4):
        _, trials, sweep = search(*words, f"hydra.sweeper.n_trials={n_trials}")
        assert len(trials) == n_trials
        names.append([trial.user_attrs["variant"] for trial in trials])
    assert names[0] == names[1][:1]
    assert list(sweep.variants) == names[1]
    assert sweep.varied == ["seed", "optimizer.lr"]
    for trial, name in zip(trials, names[1], strict=True):
        rate, config = trial.params["optimizer.lr"], sweep[name].config
        assert name == f"optimizer.lr={config['optimizer']['lr']},seed={config['seed']}"
        assert config["optimizer"]["lr"] == pytest.approx(rate, rel=1e-5)
        assert config["seed"] == trial.params["seed"]
        assert 1e-3 <= rate <= 1e-2


def test_a_trial_that_fails_does_not_end_the_search(search, tmp_path):
    (tmp_path / "mine.py").write_text(NAN)
    losses = "loss._target_=choice(torch.nn.L1Loss,mine.NaNLater)"
    done, trials, sweep = search(losses, "optimize=val/psnr:max", "hydra.sweeper.n_trials=4", "hydra.sweeper.batch=2")
    states = {trial.user_attrs["variant"]: trial.state for trial in trials}
    assert states == {"loss=L1Loss": TrialState.COMPLETE, "loss=NaNLater": TrialState.FAIL}
    failed = [trial.state for trial in trials].count(TrialState.FAIL)
    assert done.stdout.splitlines()[-1].startswith(f"best of 4 trials, {failed} failed: val/psnr ")
    assert sweep["loss=NaNLater"].status["reason"].startswith("the loss is nan at step")


def test_a_pruned_trial_leaves_its_neighbors_alone(search, train, tmp_path):
    """The neighbor's weights are those of a sweep in which nobody was pruned."""
    size = [each for each in TINY if not each.startswith("trainer.max_epochs")]
    size += ["trainer.max_epochs=4", "array.threads=1"]
    pruner = "hydra.sweeper.pruner={_target_:optuna.pruners.ThresholdPruner,upper:1,n_warmup_steps:5}"
    _, trials, sweep = search(RATES, *size, pruner, "optimize=val/loss:min", "hydra.sweeper.n_trials=2")
    train("-m", "sweep=plain", "optimizer=adam", "optimizer.lr=0.3,0.003", *TINY, *size)
    plain = load_sweep(tmp_path / "outputs" / "sweeps" / "plain")
    states = {trial.user_attrs["variant"]: trial.state for trial in trials}
    assert states == {"optimizer.lr=0.3": TrialState.PRUNED, "optimizer.lr=0.003": TrialState.COMPLETE}
    assert [each.results["steps"] for each in plain.variants.values()] == [16, 16]
    assert sweep["optimizer.lr=0.3"].results["steps"] == 8  # after the second epoch
    neighbor, alone = (each["optimizer.lr=0.003"] for each in (sweep, plain))
    assert neighbor.results["steps"] == 16
    assert neighbor.results["array"]["variants"] == 2
    weights = [torch.load(each.folder / "checkpoints" / "last.ckpt")["state_dict"] for each in (neighbor, alone)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    reported = next(trial for trial in trials if trial.state == TrialState.COMPLETE).intermediate_values
    assert reported == {int(row["step"]): row["val/loss"] for row in neighbor.curves}


WRONG = {
    "no metric": ([RATES], "a search needs to know what it is for: give it optimize=METRIC:max or optimize=METRIC:min"),
    "unknown metric": (
        [RATES, "optimize=val/beauty:max"],
        "there is no metric val/beauty; there are val/loss, val/red",
    ),
    "no direction": ([RATES, "optimize=val/ssim"], "optimize=val/ssim does not end in :max or :min"),
    "nothing varies": (["optimize=val/ssim:max"], "nothing varies: give a search something such as 'optimizer.lr=tag("),
    "unknown choice": (["loss=l1,l3", "optimize=val/ssim:max"], "Available options in 'loss'"),
    "no sweeper": ([RATES, "optimize=val/ssim:max", "hydra/sweeper=basic"], "it goes with -m hydra/sweeper=optuna"),
    "no such pruner": (
        [RATES, "optimize=val/ssim:max", "hydra.sweeper.pruner={_target_:optuna.pruners.Secateurs}"],
        "cannot make optuna.pruners.Secateurs",
    ),
    "no trials": ([RATES, "optimize=val/ssim:max", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials is 0: use"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words(case, train, tmp_path):
    arguments, message = WRONG[case]
    done = train(*SEARCH, *arguments, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("outputs/sweeps/mine/*.journal"))


def test_without_optuna(train, tmp_path):
    (tmp_path / "optuna.py").write_text("raise ModuleNotFoundError(\"No module named 'optuna'\")")
    done = train(*SEARCH, RATES, "optimize=val/ssim:max", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: hydra/sweeper=optuna needs Optuna: pip install 'losslens[optuna]'\n"


def read(*overrides):
    return read_space(OverridesParser.create().parse_overrides(list(overrides)))


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("a=interval(1,2)", FloatDistribution(1.0, 2.0)),
        ("a=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("a=range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("a=range(5)", IntDistribution(0, 4)),
        ("a=range(8,2,-2)", IntDistribution(4, 8, step=2)),
        ("a=range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=choice(2,4,8)", CategoricalDistribution(("2", "4", "8"))),
        ("a=x,y", CategoricalDistribution(("x", "y"))),
        ("a=choice([1,2],{b:3},'c,d')", CategoricalDistribution(("[1,2]", "{b:3}", r"c\,d"))),
        ("+a.b@c=true,false", CategoricalDistribution(("True", "False"))),
    ],
)
def test_what_varies(override, distribution):
    space, fixed = read("trainer=cpu", override, "~loss.view")
    assert list(space.values()) == [distribution]
    assert list(space) == [override.partition("=")[0]]
    assert fixed == ["trainer=cpu", "~loss.view"]
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    (word,) = suggest(trial, space)
    OverridesParser.create().parse_override(word)  # can be read again
    assert suggest(trial, space) == [word]


def test_numbers_are_short_and_stay_what_they_are():
    space, _ = read("rate=tag(log,interval(1e-5,1e-1))", "share=interval(1,2)")
    study = optuna.create_study()
    study.enqueue_trial({"rate": 1.23456789e-5, "share": 2.0})
    words = suggest(study.ask(), space)
    assert words == ["rate=1.23457e-05", "share=2.0"]
    values = [override.value() for override in OverridesParser.create().parse_overrides(words)]
    assert values == [1.23457e-5, 2.0]
    assert all(isinstance(value, float) for value in values)


def test_every_choice_is_tried_before_anything_trains():
    space, _ = read("loss=l1,luma,red", "seed=range(2,5)")
    assert examples(space) == [["loss=l1", "seed=2"], ["loss=luma", "seed=4"], ["loss=red", "seed=2"]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=tag(logarithmic,interval(1,2))", r"a=.*: tag logarithmic is unknown: there is log"),
        ("a=tag(log,choice(1,2))", "log is for intervals"),
        ("a=tag(log,interval(0,1))", "a=.*low"),
        ("a=interval(2,1)", "a=.*low"),
        ("a=range(3,3)", "the range is empty"),
    ],
)
def test_what_cannot_vary(override, message):
    with pytest.raises(ValueError, match=message):
        read(override)


def test_a_variant_has_callbacks_of_its_own(train, tmp_path):
    """One variant stops early; the other one, in the same array, does not."""
    (tmp_path / "mine.py").write_text(
        "import lightning\n"
        "class After(lightning.Callback):\n"
        "    def __init__(self, step): self.step = step\n"
        "    def on_validation_end(self, trainer, pl_module): trainer.should_stop |= trainer.global_step >= self.step\n"
    )
    callbacks = "+callbacks.stop={_target_:mine.After,step:4},{_target_:mine.After,step:8}"
    train("-m", "sweep=mine", callbacks, *TINY, "trainer.max_epochs=3")
    results = [each.results for each in load_sweep(tmp_path / "outputs" / "sweeps" / "mine").variants.values()]
    assert [(each["steps"], each["array"]["variants"]) for each in results] == [(4, 2), (8, 2)]
