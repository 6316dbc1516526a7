"""A Slurm of one node on this machine: munge, slurmctld and slurmd, without accounting."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from commands import HANGS

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmUser=root
MpiDefault=none
ReturnToService=2
KillWait=20
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_possible() -> bool:
    """Whether its programs and two cores are here, and this is root, whom munge and slurmd want."""
    return sys.platform == "linux" and os.geteuid() == 0 and os.cpu_count() > 1 and all(map(shutil.which, DAEMONS))


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[str]:
    """Start it; yields the name of its node. Until the end, SLURM_CONF is set.

    Raises:
        TimeoutError: if the node does not become idle.
    """
    host, port = socket.gethostname().partition(".")[0], _free_port()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    text = CONFIGURATION.format(folder=folder, host=host, port=port, next_port=port + 1, cores=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    own_munge = _start_munge()
    try:
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon, "-L", folder / f"{daemon}.log"], check=True)
        wait_for_idle(host)
        yield host
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        for file in (folder / "slurmd.pid", folder / "slurmctld.pid", *own_munge):
            with suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)
        del os.environ["SLURM_CONF"]


def wait_for_idle(host: str) -> None:
    """Wait until the node takes jobs."""
    deadline = time.monotonic() + HANGS
    command = ["sinfo", "--noheader", "--format=%t", f"--nodes={host}"]
    while subprocess.run(command, capture_output=True, text=True).stdout.strip() != "idle":
        if time.monotonic() > deadline:
            raise TimeoutError("the node of Slurm does not become idle")
        time.sleep(0.2)


def _start_munge() -> list[Path]:
    """Start munge if it does not run; returns the file with the number of its process."""
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return []
    place = Path("/run/munge")
    place.mkdir(exist_ok=True)
    shutil.chown(place, "munge", "munge")
    subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "munged"], check=True)
    return [place / "munged.pid"]


def _free_port() -> int:
    """Find two ports in a row that nobody uses."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port
