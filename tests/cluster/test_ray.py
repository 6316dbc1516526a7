"""Sweeps on a real Ray cluster of two nodes on this machine."""

import tempfile

import pytest
from commands import SHORT
from sweeps import LOSSES, UNPACED, VARIANTS, Sweep

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(dir=SHORT, ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)  # not temp_dir: of that, the file with the address knows nothing
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        yield cluster
        cluster.shutdown()


@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_node_is_lost(cluster, tmp_path, unhurt):
    sweep = Sweep(tmp_path)
    first = cluster.add_node(num_cpus=2)
    launcher = ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}", "hydra.launcher.cpus=1"]
    process = sweep.start(sweep.command(*launcher, size=UNPACED))
    sweep.wait_for(lambda: max(sweep.saved_step(name) for name in VARIANTS) >= 40, process)
    cluster.remove_node(first, allow_graceful=False)
    cluster.add_node(num_cpus=2)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "arrays as tasks of Ray at" in out
    for name in VARIANTS:
        assert sweep.results(name) == unhurt[name]


def test_no_task_fits(cluster, tmp_path):
    sweep = Sweep(tmp_path)
    arguments = ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}"]
    done = sweep.run(["train.py", "-m", LOSSES, *UNPACED, *arguments])
    assert done.returncode == 1
    assert "Ray has 0 CPUs and 0 GPUs: too few" in done.stderr
