"""The examples of training in other people's trainers, run as a reader runs them, for a few steps."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.filterwarnings("ignore")  # what a reader would see too


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run an example with its options, in a folder of its own, and give what it prints."""

    def run(name, *options):
        monkeypatch.setattr(sys, "argv", [name, *options])
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def numbers(name, out):
    """The numbers that stand behind a name in what was printed."""
    return [float(found) for found in re.findall(rf"{re.escape(name)}\W+([\d.]+)", out)]


def test_hf_trainer_logs_what_it_trains_on_and_saves_a_plain_model(run, tmp_path):
    out = run("hf_trainer.py", "--steps", "5", "--out", "model")
    smoothed, nll, accuracy, ece = (numbers(name, out) for name in ("'loss'", "'nll'", "'accuracy'", "'ece'"))
    assert len(smoothed) == len(nll) == len(accuracy) == len(ece) == 5
    assert all(0 <= each <= 1 for each in accuracy + ece)
    assert smoothed[-1] > nll[-1] + 0.005  # once the network is surer than a uniform guess
    (held_out,) = numbers("NLL of held out text", out)
    assert numbers("'eval_loss'", out) == [pytest.approx(held_out, rel=1e-3)]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.vocab_size == 2000
    assert (tmp_path / "model" / "tokenizer.json").exists()


def test_trl_sft_learns(run, tmp_path):
    out = run("trl_sft.py", "--steps", "10", "--out", "model")
    losses = numbers("'loss'", out)
    assert losses[-1] < losses[0]
    assert len(numbers("'mean_token_accuracy'", out)) == len(losses)
    assert len(numbers("NLL of held out answers", out)) == 1
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.model_type == "qwen3"


def test_timm_images_learns(run, tmp_path):
    import timm_apart  # noqa: F401  # which lets timm be imported

    out = run("timm_images.py", "--model", "test_resnet", "--epochs", "2", "--out", "digits.safetensors")
    assert len(numbers("loss", out)) == 2
    assert numbers("accuracy", out)[0] > 0.3
    assert load_file(tmp_path / "digits.safetensors")


def test_lightning_module_logs_both_sides(run):
    out = run("lightning_module.py", "--epochs", "2")
    for side in ("train", "validation"):
        (accuracy,), (nll,), (ece,) = (numbers(f"{side}_{name}", out) for name in ("accuracy", "nll", "ece"))
        assert accuracy > 0.7
        assert 0 < ece < 1
        assert nll > 0


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_fsdp2_has_the_losses_of_one_process(tmp_path):
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command += (str(EXAMPLES / "fsdp2.py"), "--steps", "4")
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    one, two = numbers("one process", out), numbers("2 processes", out)
    assert len(one) == 4
    assert one == pytest.approx(two, abs=1e-5)
    assert one[-1] < one[0]


def test_accelerate_loop_measures_what_it_trains_on(run):
    out = run("accelerate_loop.py", "--steps", "4")
    (nll,), (accuracy,), (ece,) = (numbers(name, out) for name in ("NLL", "accuracy", "ECE"))
    assert nll < torch.tensor(256.0).log()
    assert accuracy > 1 / 256
    assert 0 < ece < 1
