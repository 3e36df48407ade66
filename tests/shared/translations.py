"""Real sentence pairs for tests of translation."""

from pathlib import Path

FILE = Path(__file__).parents[1] / "fixtures" / "verses.tsv"
