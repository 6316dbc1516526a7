"""Images, decoded once to uint8 and batched on the device."""

from losslens.data.arrays import Arrays
from losslens.data.benchmarks import CIFAR10, STL10
from losslens.data.datamodule import ImageDataModule
from losslens.data.folder import Folder
from losslens.data.photos import Photos
from losslens.data.shapes import Shapes
from losslens.data.source import Images, Source

__all__ = ["CIFAR10", "STL10", "Arrays", "Folder", "ImageDataModule", "Images", "Photos", "Shapes", "Source"]
