"""lgcvd: video diffusion with local-global context guidance. For the method read rollout, denoiser, models, unet."""

from lgcvd.adapt import Adaptation
from lgcvd.baselines import BASELINES
from lgcvd.checkpoints import load, save, shipped_models
from lgcvd.config import PRESETS, ModelConfig, Preset, TrainConfig
from lgcvd.context import TASKS, Context, TaskMix
from lgcvd.denoiser import About, VideoDenoiser
from lgcvd.digits import MovingDigits
from lgcvd.distill import DistillStep, distill
from lgcvd.errors import UserError
from lgcvd.futures import Futures, futures
from lgcvd.mcvd import MCVDConcat, MCVDSpatin
from lgcvd.models import LGCVD, MODELS
from lgcvd.objective import BlockMasking, SingleStage, TwoStage
from lgcvd.rollout import MEMORIES, Inverted, Noised, Window, predict, rollout
from lgcvd.run_folder import Validation, watch
from lgcvd.sampling import SAMPLERS, Sampling, sample
from lgcvd.seeds import seeded
from lgcvd.trainer import TrainStep, train

__all__ = [
    "BASELINES",
    "LGCVD",
    "MEMORIES",
    "MODELS",
    "PRESETS",
    "SAMPLERS",
    "TASKS",
    "About",
    "Adaptation",
    "BlockMasking",
    "Context",
    "DistillStep",
    "Futures",
    "Inverted",
    "MCVDConcat",
    "MCVDSpatin",
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
