"""What "equal" means: losses as distances of views. Depends on torch alone."""

from losslens.losses.contract import check_loss
from losslens.losses.loss import Loss
from losslens.losses.views import LinearView, Luma

__all__ = ["LinearView", "Loss", "Luma", "check_loss"]
