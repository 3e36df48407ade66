"""Trials of the images task, changed for a test."""

from dataclasses import fields, replace

from labelsmooth.study import TrialConfig
from labelsmooth.study.tasks.images import TASK

new_network = TASK.new_network


def changed(config: TrialConfig, **changes) -> TrialConfig:
    """The config with other values of its own fields or of its settings."""
    own = {name: value for name, value in changes.items() if name in {field.name for field in fields(config)}}
    settings = {name: value for name, value in changes.items() if name not in own}
    return replace(config, settings=replace(config.settings, **settings), **own)
