"""Real utterances for tests of speech."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "fixtures" / "prompts"
FILE = FOLDER / "manifest.tsv"
