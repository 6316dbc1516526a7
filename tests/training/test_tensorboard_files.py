"""What a variant writes for TensorBoard, beyond what torch and TensorBoard write."""

import torch
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer import record_writer

from losslens.training.logger import masked_crc32c, rotated


def test_checksums_are_those_of_tensorboard():
    assert record_writer.masked_crc32c is masked_crc32c  # which TensorBoard's writer calls
    for size in (0, 1, 8, 1000):
        data = bytes(torch.randint(256, (size,)).tolist())
        assert masked_crc32c(data) == pywrap_tensorflow.masked_crc32c(data)


def test_rotated_codes_keep_distances_and_angles():
    for count, size in ((5, 40), (40, 5)):
        codes = torch.randn(count, size)
        kept = rotated(codes)
        assert kept.shape == (count, 5)
        assert torch.allclose(kept @ kept.T, codes.double() @ codes.double().T, atol=1e-5)
