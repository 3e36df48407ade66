"""Studies: train with and without label smoothing on real data, and keep what was measured."""

from labelsmooth.objectives import Objective
from labelsmooth.study.plan import Plan, plan_study
from labelsmooth.study.runner import run_study
from labelsmooth.study.settings import TrainingSettings
from labelsmooth.study.stored import Study, Trial, load_study
from labelsmooth.study.tasks.base import Curves, Metrics
from labelsmooth.study.tasks.classifier import TrialArrays
from labelsmooth.study.tasks.images import ImageCurves, ImageSettings, Recipe
from labelsmooth.study.tasks.images.recipes import RECIPES
from labelsmooth.study.trial import DivergedTrial, Teacher, TrialConfig

__all__ = [
    "RECIPES",
    "Curves",
    "DivergedTrial",
    "ImageCurves",
    "ImageSettings",
    "Metrics",
    "Objective",
    "Plan",
    "Recipe",
    "Study",
    "Teacher",
    "TrainingSettings",
    "Trial",
    "TrialArrays",
    "TrialConfig",
    "load_study",
    "plan_study",
    "run_study",
]
