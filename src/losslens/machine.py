"""The machine that something was measured on."""

import platform
import re
from pathlib import Path

import torch


def machine() -> str:
    """Name the GPU, or else the processor."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def processor() -> str:
    """Name the processor, and the number of threads that PyTorch uses."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M)):
        model = found[1]
    return f"{model}, {torch.get_num_threads()} cores"
