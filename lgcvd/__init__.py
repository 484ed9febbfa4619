"""lgcvd: video diffusion with local-global context guidance. Read rollout -> models -> unet for the method."""

from lgcvd.checkpoints import load, save, shipped_models
from lgcvd.config import PRESETS, ModelConfig, Preset, TrainConfig
from lgcvd.context import Context, TaskMix
from lgcvd.digits import MovingDigits
from lgcvd.errors import UserError
from lgcvd.models import LGCVD, About, VideoDenoiser
from lgcvd.objective import SingleStage, TwoStage
from lgcvd.rollout import Window, predict, rollout
from lgcvd.sampling import SAMPLERS, sample
from lgcvd.trainer import TrainStep, train

__all__ = [
    "LGCVD",
    "PRESETS",
    "SAMPLERS",
    "About",
    "Context",
    "ModelConfig",
    "MovingDigits",
    "Preset",
    "SingleStage",
    "TaskMix",
    "TrainConfig",
    "TrainStep",
    "TwoStage",
    "UserError",
    "VideoDenoiser",
    "Window",
    "load",
    "predict",
    "rollout",
    "sample",
    "save",
    "shipped_models",
    "train",
]
