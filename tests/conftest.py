import importlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

LAB = Path(__file__).parents[2] / "shared" / "tools"
"""Where scripts lie that start and stop a SLURM of one node."""


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """As scoring does on CPU: the bits of a sum depend on the number of threads."""
    torch.set_num_threads(1)
    importlib.import_module("torch._decomp.decompositions_for_jvp")  # a third of a second in every process forked later


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heard():
    """A shell that starts the tests in the background has them, and all that they start, ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file runs in one worker, so that its fixtures are made once; those named `*slurm*` in one, with one SLURM."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "slurm" if "slurm" in Path(file).name else file

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def slurm():
    """A SLURM that runs jobs: the machine's own, or one of this node alone for as long as the tests run."""
    if shutil.which("sbatch"):
        nodes = subprocess.run(["sinfo", "-h", "-o", "%n"], capture_output=True, text=True, timeout=60)
        if nodes.returncode == 0:
            if not set(nodes.stdout.split()) <= {"localhost", socket.gethostname().partition(".")[0]}:
                pytest.skip("the SLURM that answers here has other nodes, which do not see the folders of these tests")
            yield
            return
    if not (LAB / "start-slurm.sh").is_file():
        pytest.skip("no SLURM answers here (sinfo), and there is no script that starts one")
    if os.geteuid() != 0:
        pytest.skip("no SLURM answers here (sinfo), and only root can start one")
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        pytest.skip("no SLURM answers here (sinfo), and slurmctld is not installed")
    folder = tempfile.mkdtemp(prefix="slurm-")
    with socket.socket() as one, socket.socket() as other:
        for port in (one, other):
            port.bind(("127.0.0.1", 0))
        ports = [str(port.getsockname()[1]) for port in (one, other)]
    names = ("SLURM_LAB_CTLD_PORT", "SLURM_LAB_SLURMD_PORT")
    # Else it would ask nproc, which answers with OMP_NUM_THREADS; two tasks at once are needed.
    cpus = str(max(2, os.cpu_count() or 1))
    settings = {**dict(zip(names, ports)), "SLURM_LAB_CPUS": cpus, "SLURM_LAB_NO_INSTALL": "1"}
    started = subprocess.run(
        ["bash", str(LAB / "start-slurm.sh"), folder], env={**os.environ, **settings}, capture_output=True, text=True
    )
    before = os.environ.get("SLURM_CONF")
    try:
        assert started.returncode == 0, started.stderr
        os.environ["SLURM_CONF"] = f"{folder}/slurm.conf"
        yield
    finally:
        subprocess.run(["scancel", "--me"], capture_output=True)
        subprocess.run(["bash", str(LAB / "stop-slurm.sh"), folder], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before


@pytest.fixture
def start_now():
    """Begins a job that was put back into the queue, for which SLURM would wait two minutes."""

    def begin(job, *changes):
        time.sleep(3)  # of the job's first start the node may still be cleaning up, and would take the new script away
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now", *changes], check=True)

    return begin
