"""What is kept from the user of what libraries print."""

import warnings

import pytest

from losslens.console import be_quiet

SETUP = ("lightning/pytorch/trainer/setup.py", 176, "lightning.pytorch.trainer.setup")


@pytest.mark.parametrize(
    "text",
    [
        "GPU available but not used. You can set it by doing `Trainer(accelerator='gpu')`.",
        "Please use the new API settings to control TF32 behavior, such as torch.backends.cudnn.conv.fp32_precision",
    ],
)
def test_warnings_of_a_machine_with_a_gpu(text):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        be_quiet()
        warnings.warn_explicit(text, UserWarning, *SETUP)
        warnings.warn_explicit("something else", UserWarning, *SETUP)
    assert [str(each.message) for each in shown] == ["something else"]
