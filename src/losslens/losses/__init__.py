"""Losses as distances of views. Depends on torch alone."""

from losslens.losses.contract import check_loss
from losslens.losses.loss import Loss
from losslens.losses.mix import Mix
from losslens.losses.views import Chroma, LinearView, Luma

__all__ = ["Chroma", "LinearView", "Loss", "Luma", "Mix", "check_loss"]
