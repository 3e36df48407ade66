"""The examples of training in other people's trainers, run as a reader runs them, for a few steps."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
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


TRAINERS = {
    "accelerate_loop.py": "--steps",
    "fsdp2.py": "--steps",
    "hf_trainer.py": "--steps",
    "lightning_module.py": "--epochs",
    "timm_images.py": "--epochs",
    "trl_sft.py": "--steps",
}


@pytest.fixture
def refused(run, capsys):
    """Run an example with options that it refuses, and give the last line it says."""

    def refused(name, *options):
        if name == "timm_images.py":
            import timm_apart  # noqa: F401  # which lets timm be imported
        with pytest.raises(SystemExit) as ended:
            run(name, *options)
        assert ended.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return refused


@pytest.mark.parametrize("name", TRAINERS)
def test_help_describes_an_example_and_its_defaults(run, capsys, name):
    if name == "timm_images.py":
        import timm_apart  # noqa: F401
    with pytest.raises(SystemExit, match="0"):
        run(name, "--help")
    text = capsys.readouterr().out
    assert ast.get_docstring(ast.parse((EXAMPLES / name).read_text())).splitlines()[0] in text
    assert text.count("(default: ") == text.count("  --")
    assert len((EXAMPLES / name).read_text().splitlines()) < 60


@pytest.mark.parametrize("number", ["0", "-3"])
@pytest.mark.parametrize("name", TRAINERS)
def test_a_number_that_no_training_has_is_refused(refused, name, number):
    assert re.search(
        rf"error: {TRAINERS[name]} must (be at least 1|lie in 1\.\.900), got {number}$",
        refused(name, TRAINERS[name], number),
    )


@pytest.mark.parametrize("name", ["hf_trainer.py", "trl_sft.py"])
def test_a_folder_that_cannot_be_made_is_refused(refused, tmp_path, name):
    (tmp_path / "taken").touch()
    for out in ("taken", "taken/model"):
        assert re.search(rf"error: --out must be a folder: .*'{out}'$", refused(name, "--out", out))


def test_a_file_that_cannot_be_written_is_refused(refused, tmp_path):
    for out in (str(tmp_path), "nowhere/digits.safetensors"):
        said = refused("timm_images.py", "--out", out)
        assert said.endswith(f"error: --out must be a file in a folder that is there, got {out}")


def test_fsdp2_says_how_it_is_started(refused, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert refused("fsdp2.py").endswith("error: start it by torchrun --nproc-per-node 2 examples/fsdp2.py")


def test_timm_images_says_what_is_missing(run, monkeypatch):
    for module in [each for each in sys.modules if each.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "labelsmooth.integrations.timm", raising=False)
    with pytest.raises(SystemExit) as ended:
        run("timm_images.py")
    assert re.fullmatch(
        r"this needs the package timm, which pip install '\.\[timm\]' in a clone of labelsmooth brings; "
        r"tested with timm \d+\.\d+\.\d+",
        str(ended.value),
    )


def test_the_extras_that_an_example_names_exist():
    extras = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name in TRAINERS:
        (named,) = re.findall(r"pip install '\.\[([\w,]+)\]'", (EXAMPLES / name).read_text())
        assert set(named.split(",")) <= set(extras)


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
    assert len(numbers("loss of its last batch", out)) == 2
    assert numbers("accuracy", out)[0] > 0.3
    assert load_file(tmp_path / "digits.safetensors")


def test_lightning_module_logs_both_sides(run):
    out = run("lightning_module.py", "--epochs", "2")
    for side in ("train", "validation"):
        (accuracy,), (nll,), (ece,) = (numbers(f"{side}_{name}", out) for name in ("accuracy", "nll", "ece"))
        assert accuracy > 0.7
        assert 0 < ece < 1
        assert nll > 0


@pytest.mark.long
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
