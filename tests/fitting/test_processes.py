"""Several processes: the same training as in one, noise of their own, and no hang when one ends."""

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import distributed

import likely as lk
from likely.core.files import read_tree
from likely.data import Rows
from likely.evaluation import energy_distance
from likely.fitting import folder as folders

TIMEOUT = 150  # of what should take a tenth of it, on a machine that may be busy


def data_of(n=1000, weighted=True, domain=None):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, generator=generator) @ torch.tensor([[1.0, 0.5], [0, 1]])
    weight = torch.rand(n, generator=generator)
    parts = [slice(0, n - 200), slice(n - 200, n - 100), slice(n - 100, n)]
    splits = [lk.data.Split(x[p], None, weight[p] if weighted else None) for p in parts]
    return lk.Data(domain or lk.reals(2), *splits, name="normal")


def same_weights(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def flow():
    return lk.make("maf", lk.reals(2), seed=7, transforms=2, hidden=(16,))


def test_two_processes_train_as_one(tmp_path):
    # A batch of 101 is not divisible, and uneven weights make rows count differently.
    data, alone, together = data_of(), flow(), flow()
    options = {"steps": 100, "batch": 101}
    expected = lk.fit(alone, data, **options)
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    history = lk.fit(together, data, **options, devices=2, run=tmp_path)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads
    assert not together.training
    assert not any(parameter.is_shared() for parameter in together.parameters())
    assert history.rows_seen == 100 * 101
    for got, wanted in zip(history.rows, expected.rows, strict=True):
        assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-5)  # 1e-4 is promised
        assert got["valid"] == pytest.approx(wanted["valid"], rel=1e-5)
    torch.testing.assert_close(together.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-5)

    assert same_weights(together, lk.load(tmp_path))
    with pytest.raises(lk.ArtifactError, match=r"fit\.devices is 2 there"):
        lk.fit(flow(), data, **options, run=tmp_path)
    with pytest.warns(UserWarning, match="nothing left to do"):
        assert lk.fit(flow(), data, **options, devices=2, run=tmp_path).rows == history.rows


def restless(model, faults):
    """Give a model a noise and a chain that differ from process to process, and faults.

    `faults` says what happens at which step in the second process: "nan", "error" or "kill".
    """
    loss, chain = model.loss, torch.zeros(2)

    def noisy(batch):
        folders.MIN_INTERVAL, folders.OVERHEAD = 0.0, 1e9
        fault = faults.get(batch.step) if distributed.get_rank() == 1 else None
        if fault == "error":
            raise ValueError("the loss is broken")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        chain.mul_(0.9).add_(torch.randn(2))
        batch.x = batch.x + 0.1 * chain + 0.1 * torch.randn_like(batch.x)
        return loss(batch) * (torch.nan if fault == "nan" else 1)

    model.loss = noisy
    model.training_state = lambda: {"chain": chain}
    model.load_training_state = lambda state: chain.copy_(state.get("chain", torch.zeros(2)))
    return model


@pytest.mark.slow
def test_a_killed_process_ends_the_fit():
    model = restless(flow(), {20: "kill"})
    with pytest.raises(lk.RunError, match="process 2 of 2 was killed by SIGKILL"):
        lk.fit(model, data_of(), steps=10_000, devices=2)


@pytest.mark.slow
def test_a_run_that_loses_processes_resumes_with_the_same_bits(tmp_path):
    def fit(folder, faults):
        model = restless(flow(), {5: "nan"} | faults)
        return model, lk.fit(model, data_of(), steps=60, devices=2, run=tmp_path / folder)

    undisturbed, history = fit("a", {})
    assert history.skipped == 1  # by both processes, although only one had no number
    with pytest.raises(lk.LikelyError, match="process 2 of 2: ValueError: the loss is broken"):
        fit("b", {20: "error"})
    with pytest.raises(lk.LikelyError, match="process 2 of 2 was killed by SIGKILL"):
        fit("b", {40: "kill"})
    state = read_tree(tmp_path / "b/checkpoint/state.safetensors")
    assert state["state"]["advances"] == 40
    first, second = (process["training"]["chain"] for process in state["processes"])
    assert not torch.equal(first, second)
    resumed, again = fit("b", {})
    assert same_weights(undisturbed, resumed)
    for row, other in zip(history.rows, again.rows, strict=True):
        assert row == other | {"seconds": row["seconds"]}


@pytest.mark.slow
def test_divergence_stays_divergence():
    model = restless(flow(), dict.fromkeys(range(10, 100), "nan"))
    with pytest.raises(lk.DivergenceError, match="20 steps in a row up to step 29"):
        lk.fit(model, data_of(), steps=100, devices=2)


@pytest.mark.slow
def test_a_gan_of_two_processes_is_as_good_as_one():
    data = lk.load_data("eight-gaussians")

    def distance(seed, devices):
        model = lk.make("gan-gp", data.domain, seed=seed, hidden=(64, 64))
        lk.fit(model, data, steps=800, seed=seed, devices=devices)
        sample = model.sample(2000, seed=0)
        return energy_distance(sample, data.test.x[:2000], replicates=2).value

    alone = np.array([distance(seed, 1) for seed in range(4)])
    together = np.array([distance(seed, 2) for seed in range(2)])
    error = alone.std(ddof=1) * np.sqrt(1 / 4 + 1 / 2)
    assert abs(together.mean() - alone.mean()) < 3 * error


def test_a_full_disk_is_told_before_processes_start(monkeypatch):
    def no_space(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(lk.RunError, match=r"task: cannot be written \(No space left"):
        lk.fit(flow(), data_of(), steps=1, devices=2)


def test_what_cannot_be_shared_is_refused():
    data = data_of()
    for model, options, message in (
        (lk.make("gmm", data.domain), {}, "not trained by gradients: leave out devices"),
        (flow(), {"batch": 1}, "fewer rows"),
        (flow(), {"devices": 0}, "devices=0: give a whole number above 0"),
    ):
        with pytest.raises(lk.LikelyError, match=message):
            lk.fit(model, data, **{"devices": 2, "steps": 1} | options)


def test_mapped_rows_go_to_another_process_by_their_place(tmp_path):
    x = np.arange(600_000, dtype=np.int32).reshape(-1, 6)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for array in (mapped, mapped[10:500, 2:4], np.asarray(mapped)[::-3]):
        rows = Rows(array, np.dtype("float32"), np.array([3, 1]))
        content = pickle.dumps(rows)
        assert len(content) < 1000
        assert np.array_equal(pickle.loads(content).array, array)


# Worlds, scripts and commands.

SCRIPT = """
import os, signal, sys, torch
import likely as lk
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from test_processes import data_of, flow

folder, kill_at = sys.argv[2], int(sys.argv[3])
rank, model = int(os.environ["RANK"]), flow()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(rank)  # the first process's weights are what counts
loss = model.loss

def fragile(batch):
    if batch.step == kill_at and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(batch)

model.loss = fragile
for devices in (3, 2):
    try:
        lk.fit(model, data_of(), steps=100, batch=101, devices=devices, run=folder + "/run")
    except lk.LikelyError as error:
        print(error)
lk.save(model, f"{folder}/{rank}.safetensors")
"""


@pytest.mark.slow
def test_a_world_that_torchrun_has_started_is_joined(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, tmp_path / "script.py", __file__, tmp_path, "-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processes have been started") == 2
    first, second, saved = (
        lk.load(tmp_path / name) for name in ("0.safetensors", "1.safetensors", "run")
    )
    assert same_weights(first, second)
    assert same_weights(first, saved)
    alone = flow()
    lk.fit(alone, data_of(), steps=100, batch=101)
    torch.testing.assert_close(first.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_process_of_slurm_whose_partner_is_killed_says_so(tmp_path):
    # Nothing watches over these two: the one that is left must find out by itself.
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "MASTER_PORT": port}
    world |= dict.fromkeys(("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"), "2")
    left, killed = (
        subprocess.Popen(
            [sys.executable, tmp_path / "script.py", __file__, tmp_path, "30"],
            env=os.environ | world | dict.fromkeys(("RANK", "SLURM_PROCID", "SLURM_LOCALID"), rank),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    assert killed.wait(TIMEOUT) == -signal.SIGKILL
    said, _ = left.communicate(timeout=10)
    killed.stdout.close()
    assert "process 1 of 2 has lost the others" in said


NOTEBOOK = """
import sys
sys.ps1 = "In: "  # what tells that somebody is typing
import torch
import likely as lk

class Mine(lk.flows.MAF):
    def loss(self, batch):
        return super().loss(batch) * factor

factor = 1.0
lk.register("mine", title="", density="", constraint="", paper="")(Mine)
x = torch.randn(1000, 2)
data = lk.Data(lk.reals(2), lk.data.Split(x), lk.data.Split(x), lk.data.Split(x))
model = lk.make("mine", data.domain, transforms=1, hidden=(8,), seed=0)
lk.fit(model, data, steps=20, devices=2, run=sys.argv[1])
print("done", lk.load(sys.argv[1]).log_prob(x).mean().item() - model.log_prob(x).mean().item())
"""


@pytest.mark.slow
def test_a_notebook_or_a_script_without_a_guard_can_launch(tmp_path):
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    command = [sys.executable, tmp_path / "notebook.py", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.stdout == "done 0.0\n", done.stderr


def wait_until(condition):
    patience = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.1)


def group_exists(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_killed_command_leaves_no_process_and_goes_on(tmp_path):
    np.save(tmp_path / "x.npy", lk.targets.rings().sample(5000, 0))

    def fit(out):
        command = [sys.executable, "-m", "likely", "fit", tmp_path / "x.npy", "--model", "nsf"]
        options = ["--set", "transforms=1", "--steps", "500", "--devices", "2"]
        return subprocess.Popen(
            [*command, *options, "--out", tmp_path / out],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert fit("alone").wait(TIMEOUT) == 0
    history, process = tmp_path / "killed/history.csv", fit("killed")
    wait_until(lambda: history.exists() and len(history.read_text().splitlines()) > 2)
    assert process.poll() is None
    process.kill()
    process.wait()
    wait_until(lambda: not group_exists(process.pid))
    assert fit("killed").wait(TIMEOUT) == 0
    assert same_weights(lk.load(tmp_path / "alone"), lk.load(tmp_path / "killed"))
