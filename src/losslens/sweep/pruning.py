"""The trials of a search on disk, and the callback that ends one that is not worth its time."""

from pathlib import Path
from typing import Any

import lightning as L
import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from losslens.build import build

JOURNAL = "search.journal"
STUDY = "search"  # the only one in a journal
SETTINGS = "settings"  # attribute of the study: `metric`, `pruner`, `overrides`
PRUNED = "pruned"  # attribute of a trial


def open_storage(folder: Path) -> BaseStorage:
    """Open the journal in a sweep's folder. It is only ever added to, so that a process may end at any moment."""
    path = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))


def trial_id(storage: BaseStorage, number: int) -> int:
    """Return by what a storage knows the trial of a number."""
    study = storage.get_study_id_from_name(STUDY)
    found: int = storage.get_trial_id_from_study_id_trial_number(study, number)
    return found


class Pruning(L.Callback):
    """Tell a trial its metric at every validation, and let its variant leave the array when the pruner says so.

    Args:
        trial: number of the trial.
    """

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
        """Report, and ask the pruner; steps are those of the optimizer."""
        if self.storage.get_trial(self.trial_id).state.is_finished():
            return
        value = trainer.callback_metrics[self.settings["metric"]].item()
        self.storage.set_trial_intermediate_value(self.trial_id, trainer.global_step, value)
        pruned = self.study.pruner.prune(self.study, self.storage.get_trial(self.trial_id))
        self.storage.set_trial_user_attr(self.trial_id, PRUNED, pruned)
        if pruned:
            trainer.should_stop = True
