"""Config: one validated object per run, loaded from YAML.

An unknown key or a bad value is an error that names the key's path, the value and what would be
right. Every section has defaults that suit a small machine, so an empty file runs the demo camera.
"""

from pipeline.config.loading import load, validate
from pipeline.config.schema import (
    DEFAULT_MODEL,
    CameraConfig,
    Config,
    EventConfig,
    FlowConfig,
    PublishConfig,
    Rule,
    RuntimeConfig,
    SupervisorConfig,
    json_schema,
)
from pipeline.program import PROJECT

__all__ = [
    "DEFAULT_MODEL",
    "PROJECT",
    "CameraConfig",
    "Config",
    "EventConfig",
    "FlowConfig",
    "PublishConfig",
    "Rule",
    "RuntimeConfig",
    "SupervisorConfig",
    "json_schema",
    "load",
    "validate",
]
