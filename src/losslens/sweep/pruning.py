"""Store the trials of a search, and stop unpromising ones by a callback."""

from pathlib import Path
from typing import Any

import lightning as L
import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from losslens.build import build

JOURNAL = "search.journal"
STUDY = "search"  # name of the only study in a journal
SETTINGS = "settings"  # attribute of the study: `metric`, `direction`, `overrides`, `pruner`
PRUNED = "pruned"  # attribute of a trial: whether the pruner stopped it


def open_storage(folder: Path) -> BaseStorage:
    """Open the journal in a sweep's folder; it is append-only, so that a killed process leaves it whole."""
    path = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))


def trial_id(storage: BaseStorage, number: int) -> int:
    """Return the storage's id of the trial with this number."""
    study = storage.get_study_id_from_name(STUDY)
    found: int = storage.get_trial_id_from_study_id_trial_number(study, number)
    return found


class Pruning(L.Callback):
    """Report a trial's metric at every validation, and stop its variant when the pruner decides so."""

    def __init__(self, trial: int) -> None:
        self.trial = trial

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Open the search that the variant belongs to."""
        self.storage = open_storage(Path(trainer.default_root_dir).parent)
        self.study = optuna.load_study(study_name=STUDY, storage=self.storage)
        self.settings: dict[str, Any] = self.study.user_attrs[SETTINGS]
        self.study.pruner = build(self.settings["pruner"])
        self.trial_id = trial_id(self.storage, self.trial)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the metric at the optimizer's step, and ask the pruner."""
        if self.storage.get_trial(self.trial_id).state.is_finished():
            return
        value = trainer.callback_metrics[self.settings["metric"]].item()
        self.storage.set_trial_intermediate_value(self.trial_id, trainer.global_step, value)
        pruned = self.study.pruner.prune(self.study, self.storage.get_trial(self.trial_id))
        self.storage.set_trial_user_attr(self.trial_id, PRUNED, pruned)
        if pruned:
            trainer.should_stop = True
