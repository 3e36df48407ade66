"""The example scripts, run as a reader runs them."""

import re
import subprocess
import sys
from pathlib import Path

from labelsmooth import theory

LANGUAGE_MODEL = Path(__file__).parents[2] / "examples" / "language_model.py"


def printed(*options: str) -> tuple[str, dict[str, list[float]]]:
    """All that the language model printed, and the losses in it by the name of the loss."""
    done = subprocess.run(
        [sys.executable, LANGUAGE_MODEL, *options], capture_output=True, text=True, check=True, timeout=300
    )
    losses: dict[str, list[float]] = {}
    for name, value in re.findall(r"(\w+)  step +\d+  loss (\S+)", done.stdout):
        losses.setdefault(name, []).append(float(value))
    return done.stdout, losses


def test_language_model_has_the_loss_curve_of_torch():
    out, losses = printed("--steps", "20", "--batch", "1", "--vocabulary", "4000")
    assert "words of 4,000 kinds" in out
    ours, theirs = losses["labelsmooth"], losses["torch"]
    assert len(ours) == len(theirs) == 2
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-4
    (apart,) = re.findall(r"largest difference of the loss curves: (\S+)", out)
    assert float(apart) < 1e-4
    assert theirs[1] < theirs[0]
    assert len(re.findall(r"ms a step, peak memory [1-9]\d* MiB", out)) == 2


def test_language_model_learns_the_text_it_is_given(tmp_path):
    text = tmp_path / "text"
    text.write_text("eins zwei drei " * 100, encoding="utf-8")
    out, losses = printed("--loss", "labelsmooth", "--text", str(text), "--batch", "1", "--steps", "60")
    assert "300 words of 4 kinds" in out  # the fourth is all rare words
    floor = theory.entropy_floor(0.1, 4)  # of a word that the one before it gives away
    assert set(losses) == {"labelsmooth"}
    assert floor <= losses["labelsmooth"][-1] < floor + 0.05
