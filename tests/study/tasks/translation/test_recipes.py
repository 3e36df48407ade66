"""The recipes of translation by name."""

from labelsmooth.cli import main
from labelsmooth.study.tasks.translation import TASK, Recipe


def test_the_recipe_on_verses_compares_hard_labels_with_those_of_the_paper():
    """Müller et al. 2019, figure 4: ε = 0 and 0.1, with BLEU on both sides of the temperature 1."""
    recipe = TASK.recipes["translation-verses"]
    assert isinstance(recipe, Recipe)
    assert recipe.eps == (0.0, 0.1)
    assert min(recipe.decode_temperatures) < 1 < max(recipe.decode_temperatures)
    assert recipe.number_of_trials == 2
    assert len({trial.id for trial in recipe.trials("0" * 64)}) == 2


def test_the_command_line_offers_it(capsys, tmp_path):
    assert main(["study", "translation", "--recipe", "nothing", "--out", str(tmp_path)]) == 2
    assert "translation-verses" in capsys.readouterr().err
    # what is given beside a recipe takes the place of its setting
    arguments = ["--recipe", "translation-verses", "--data", "tsv:none.tsv", "--dry-run"]
    assert main(["study", "translation", *arguments]) == 2
    assert "none.tsv" in capsys.readouterr().err
