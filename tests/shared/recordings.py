"""Real utterances and a tiny network for tests of speech."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "fixtures" / "prompts"
FILE = FOLDER / "manifest.tsv"
TINY = (16, 1, 1, 2, 16, 32)  # width, layers of encoder and decoder, heads, inner width, channels
