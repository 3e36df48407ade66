"""`--engine ray`: the same bytes as without it, whatever happens to the machines of the cluster."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from tiny_studies import TINY_STUDIES, stored_bytes

from labelsmooth.cli import main
from labelsmooth.progress import Progress
from labelsmooth.study import Recipe, run_study
from labelsmooth.study.engines.base import Context
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.engines.ray import RayCluster
from labelsmooth.study.tasks.images.data import load_data
from labelsmooth.study.training import run_trial

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")

MEMORY = 80 * 2**20  # of an object store; the least that Ray takes is 75 MiB

# A network that notes the seed whenever it is made. Where a machine is doomed, the second one that is made there
# stops in its training, and that of another machine waits until it does. A machine is the parent of processes.
NETWORK = """
import os
import time
from pathlib import Path

import torch
from torch import nn

FOLDER = Path({folder!r})


def note(name):
    with (FOLDER / name).open("a") as stream:
        print(torch.initial_seed() % 2**31, file=stream)  # dropout has another


class Stopping(nn.Sequential):
    steps = 0

    def forward(self, images):
        self.steps += 1
        machine, doomed, stopped = (FOLDER / name for name in (str(os.getppid()), "doomed", "stopped"))
        if self.steps == 20 and doomed.exists() and len(machine.read_text().split()) == 2:
            if doomed.read_text() == machine.name:
                note("stopped")
                time.sleep(100)
            for _ in range(1000):
                if not stopped.exists():
                    time.sleep(0.1)
        return super().forward(images)


def make(shape, num_classes):
    note("made")
    note(str(os.getppid()))
    return Stopping(nn.Flatten(), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, num_classes))
"""


@pytest.fixture(scope="module")
def variables():
    """Environment of what imports Ray: it keeps to 127.0.0.1, and its files and its token to the tests."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        found = {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": folder,  # of pytest's, the names of sockets would be too long
            "RAY_AUTH_TOKEN": "0" * 64,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in found.items():
                patch.setenv(name, value)
            yield found


@pytest.fixture(scope="module")
def cluster(kills, variables):
    """One machine with one core."""
    from ray.cluster_utils import Cluster

    before = kills.descendants(os.getpid())
    cluster = Cluster(initialize_head=True, head_node_args=machine(include_dashboard=False))
    yield cluster
    started = kills.descendants(os.getpid()) - before
    cluster.shutdown()
    wait_until(lambda: not any(map(kills.alive, started)), "a process of the cluster goes on")


@pytest.fixture(scope="module")
def recipe(kills, tmp_path_factory):
    """Twelve trials of a fraction of a second, eight of them of students with a teacher."""
    return kills.digits_recipe(tmp_path_factory.mktemp("data"))


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A module that is imported here, and that no process can find by itself."""
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "stopping_network.py").write_text(NETWORK.format(folder=str(tmp_path)))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "module")
        module = importlib.import_module("stopping_network")
    yield "stopping_network:make"
    del sys.modules[module.__name__]


def machine(**settings):
    return {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": MEMORY, **settings}


def wait_until(happened, otherwise):
    ends = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < ends, otherwise
        time.sleep(0.05)


def noted(path):
    return Counter(path.read_text().split())


@pytest.mark.long
def test_a_machine_dies(kills, recipe, network, cluster, tmp_path, monkeypatch, capsys):
    """What it was training is trained elsewhere, and nothing that was complete; no file is read for it."""
    data = tmp_path / "digits.npz"
    data.write_bytes(Path(recipe[1].removeprefix("npz:")).read_bytes())
    study = Recipe(
        data=f"npz:{data}",
        model=network,
        student="linear",
        temperatures=(2.0,),
        eps=(0.0,),
        seeds=5,
        epochs=8,
        batch_size=64,
    )
    epochs = []
    monkeypatch.setattr(Progress, "advance", lambda progress: epochs.append(None))
    run_study(study, tmp_path / "local", jobs=1)
    made_here = noted(tmp_path / "made")
    (tmp_path / "made").unlink()
    assert len(epochs) == 15 * 8
    epochs.clear()

    node = cluster.add_node(**machine())
    raylet = node.all_processes["raylet"][0].process.pid
    (tmp_path / "doomed").write_text(str(raylet))
    complete = {}

    def kill():
        wait_until((tmp_path / "stopped").exists, "the machine was not given a second trial")
        data.unlink()
        wait_until(lambda: len(kills.complete_trials(tmp_path / "ray")) == 2, "a result does not arrive")
        complete.update(kills.complete_trials(tmp_path / "ray"))
        for pid in [raylet, *kills.descendants(raylet)]:
            os.kill(pid, signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)

    killer = Thread(target=kill)
    killer.start()
    run_study(study, tmp_path / "ray", engine="ray", address=cluster.address)
    killer.join()
    assert (tmp_path / "ray/results.jsonl").read_bytes() == (tmp_path / "local/results.jsonl").read_bytes()
    assert complete.items() <= kills.complete_trials(tmp_path / "ray").items()
    assert noted(tmp_path / "made") - made_here == noted(tmp_path / "stopped")
    assert len(epochs) == 15 * 8
    assert capsys.readouterr().out == ""


@pytest.mark.long
def test_a_cluster_of_this_machine_ends_with_the_study_and_another_goes_on(
    kills, recipe, cluster, tmp_path, capsys
):
    out = tmp_path / "ray"
    process = kills.start([*recipe, "--engine", "ray", "--jobs", "2"], out)
    for line in process.stderr:
        if line.startswith("trial 2 of 12"):
            break
    started = kills.descendants(process.pid)
    assert listening({process.pid, *started}) == {"127.0.0.1"}
    for pid in {process.pid} | {pid for pid in started if os.getpgid(pid) == os.getpgid(process.pid)}:
        os.kill(pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    wait_until(lambda: not any(map(kills.alive, started)), "a process goes on without its study")
    before = kills.complete_trials(out)
    assert 2 <= len(before) < 12

    assert main(["study", *recipe, "--engine", "ray", "--address", cluster.address, "--out", str(out)]) == 0
    assert before.items() <= kills.complete_trials(out).items()
    assert main(["study", *recipe, "--jobs", "1", "--out", str(tmp_path / "local")]) == 0
    assert (out / "results.jsonl").read_bytes() == (tmp_path / "local/results.jsonl").read_bytes()


@pytest.mark.parametrize(
    "task",
    ["translation", *(pytest.param(task, marks=pytest.mark.long) for task in ("speech", "language-model"))],
)
def test_tasks_of_tokens_give_the_same_bytes(task, cluster, tmp_path):
    """Its time is that of a process of Ray which imports transformers."""
    recipe = TINY_STUDIES[task](tmp_path)
    here = run_study(recipe, tmp_path / "here", jobs=1)
    there = run_study(recipe, tmp_path / "ray", engine="ray", address=cluster.address)
    assert stored_bytes(there.folder) == stored_bytes(here.folder)


def listening(pids):
    """The addresses at which processes wait for others to connect."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except FileNotFoundError:  # closed by now
                continue
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in inodes:
                words = bytes.fromhex(local.partition(":")[0])
                found.add(socket.inet_ntoa(words[-4:][::-1]))  # of ::ffff:127.0.0.1 too
    return found


def test_what_goes_wrong_on_a_machine_is_one_sentence(cluster, network, tmp_path, monkeypatch):
    data = load_data("digits")
    recipe = Recipe(data="digits", model=network, eps=(0.0,), seeds=1, epochs=1, learning_rate=1e9)
    (config,) = recipe.trials(data.summary.sha256)

    engine = RayCluster(cluster.address)
    context = Context(
        run_trial=run_trial, load=lambda: data, data=data, data_name="digits", teacher_of=lambda _: None,
        placement=Placement(), jobs=None, at_a_time=1, threads=1, trials=1,
        modules=frozenset({network.partition(":")[0]}),
    )  # fmt: skip

    def outcome(config, device="cpu"):
        placement = Placement()
        placement.device = torch.device(device)
        (found,) = engine.run([config], replace(context, placement=placement), lambda: None)
        return found

    def sentence(config, device="cpu"):
        with pytest.raises(ValueError, match=".") as raised:
            outcome(config, device)
        return str(raised.value)

    with engine.open(context):
        with (
            pytest.raises(ValueError, match="connected to a Ray cluster already"),
            RayCluster(None).open(context),
        ):
            pass
        broken = outcome(config).reason
        assert broken.startswith(f"the training of {network} on hard, seed 0 broke down in epoch 1: ")
        assert sum(noted(tmp_path / "made").values()) == 1  # it was not tried again
        assert sentence(replace(config, model_sha256="0" * 64)) == (
            f"the files of the model {network} are others on {platform.node()}"
        )
        assert sentence(config, "mps") == (
            f"trials would train on the device cpu on {platform.node()}, and train on mps here"
        )
        true = importlib.metadata.version
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: "2.0.1" if name == "torch" else true(name)
        )
        assert sentence(config) == (
            f"torch is {true('torch')} on the machine {platform.node()} of the cluster and 2.0.1 here; "
            "install the same version there"
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--engine slurm", "slurm"),
        ("--address auto", "an address is for the engine ray, got 'auto' with the engine local"),
        ("--engine ray --address here", "must be HOST:PORT or auto, got 'here'"),
        ("--engine ray --address ray://127.0.0.1:10001", "must be HOST:PORT or auto"),
        ("--engine ray --address 127.0.0.1:1", "no Ray cluster could be reached at 127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(variables, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--data", "digits", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    (sentence,) = err.splitlines()
    assert sentence.startswith("labelsmooth: error: ")
    assert says in sentence
    assert out == ""
    assert list(tmp_path.iterdir()) == []  # found before anything was made


def test_without_ray(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--data", "digits", "--engine", "ray"]) == 2
    assert capsys.readouterr().err == (
        "labelsmooth: error: this needs the package ray, "
        "which pip install '.[ray]' in a clone of labelsmooth brings\n"
    )
    assert list(tmp_path.iterdir()) == []
