"""What the README shows runs as it stands."""

import re
import subprocess
import sys
from math import log
from pathlib import Path

import pytest

from labelsmooth.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_library_example_runs():
    first, layer, measures, _ = EXAMPLES
    assert len(first.splitlines()) <= 11
    imports = "import torch\nimport labelsmooth as ls\n"
    example = imports + layer.replace("4096", "16") + "\n" + first + 'print("---")\n' + measures
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    of_losses, _, of_measures = done.stdout.partition("---\n")
    gap, floor = map(float, of_losses.splitlines()[-1].split())
    assert abs(gap - log(1 + 1000 * 0.9 / 0.1)) < 1e-12
    assert abs(floor - (-0.9001 * log(0.9001) - 999 * 1e-4 * log(1e-4))) < 1e-12
    # guesses among 1,000 classes that are sure of themselves: a temperature makes them better
    assert re.fullmatch(
        r"0\.\d+ Interval\(value=0\..* \d\.\d+\nInterval\(value=\d\.\d+, low=-?\d.*\)\n", of_measures
    )


def test_the_example_of_a_trainer_runs(tmp_path):
    *_, example = EXAMPLES
    before = f"""
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
sizes = dict(vocab_size=50, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(**sizes))
arguments = TrainingArguments({str(tmp_path)!r}, report_to="none", use_cpu=True, save_strategy="no", logging_steps=1)
rows = [dict(input_ids=row, labels=row) for row in torch.randint(3, 50, (8, 6))]
"""
    after = "trainer.train()\nprint(sorted(trainer.state.log_history[0]))"
    done = subprocess.run(
        [sys.executable, "-c", before + example + after], capture_output=True, text=True, check=True
    )
    assert {"accuracy", "ece", "loss", "nll"} <= set(eval(done.stdout.splitlines()[-1]))


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("[A-Z]*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_commands_exist_as_written(capsys):
    commands = sorted(set(re.findall(r"^labelsmooth (\w+(?: [a-z][\w-]+)?) ", README, flags=re.MULTILINE)))
    assert "study translation" in commands
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main([*command.split(), "--help"])
        assert end.value.code == 0
        assert f"usage: labelsmooth {command} " in capsys.readouterr().out
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
