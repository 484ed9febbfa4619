"""lgcvd: video diffusion with local-global context guidance. Read rollout -> models -> unet for the method."""

from lgcvd.checkpoints import load, save, shipped_models
from lgcvd.config import PRESETS, ModelConfig, Preset, TrainConfig
from lgcvd.context import TASKS, Context, TaskMix
from lgcvd.digits import MovingDigits
from lgcvd.distill import DistillStep, distill
from lgcvd.errors import UserError
from lgcvd.futures import Futures, futures
from lgcvd.models import LGCVD, About, VideoDenoiser
from lgcvd.objective import SingleStage, TwoStage
from lgcvd.rollout import MEMORIES, Inverted, Noised, Window, predict, rollout
from lgcvd.run_folder import Validation, watch
from lgcvd.sampling import SAMPLERS, Sampling, sample, seeded
from lgcvd.trainer import TrainStep, train

__all__ = [
    "LGCVD",
    "MEMORIES",
    "PRESETS",
    "SAMPLERS",
    "TASKS",
    "About",
    "Context",
    "DistillStep",
    "Futures",
    "Inverted",
    "ModelConfig",
    "MovingDigits",
    "Noised",
    "Preset",
    "Sampling",
    "SingleStage",
    "TaskMix",
    "TrainConfig",
    "TrainStep",
    "TwoStage",
    "UserError",
    "Validation",
    "VideoDenoiser",
    "Window",
    "distill",
    "futures",
    "load",
    "predict",
    "rollout",
    "sample",
    "save",
    "seeded",
    "shipped_models",
    "train",
    "watch",
]
