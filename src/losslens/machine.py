"""Describe the machine: processor, GPU, free memory."""

import platform
import re
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


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


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU, or of main memory within the limit of the container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return min(free, max(limit - used, 0))
