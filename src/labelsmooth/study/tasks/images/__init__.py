"""The task of classifying images, or rows of a table."""

from labelsmooth.study.tasks.images.measuring import ImageCurves
from labelsmooth.study.tasks.images.settings import ImageSettings, Recipe
from labelsmooth.study.tasks.images.task import ImageTask

TASK = ImageTask()

__all__ = ["TASK", "ImageCurves", "ImageSettings", "Recipe"]
