"""Studies: train with and without label smoothing on real images, and keep what was measured."""

from labelsmooth.objectives import Objective
from labelsmooth.study.measuring import Clusters, Curves, Distilled, Metrics, Scores, TrialArrays
from labelsmooth.study.plan import Plan, plan_study
from labelsmooth.study.recipe import Recipe, TrialConfig
from labelsmooth.study.recipes import RECIPES
from labelsmooth.study.runner import run_study
from labelsmooth.study.store import Study, Trial, load_study

__all__ = [
    "RECIPES",
    "Clusters",
    "Curves",
    "Distilled",
    "Metrics",
    "Objective",
    "Plan",
    "Recipe",
    "Scores",
    "Study",
    "Trial",
    "TrialArrays",
    "TrialConfig",
    "load_study",
    "plan_study",
    "run_study",
]
