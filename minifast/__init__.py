"""minifast: lesson 3 of fast.ai's 2019 course, rebuilt from scratch to be read in an afternoon."""

__version__ = "0.2.0"

# The core, in reading order: a module imports only modules before it, and tools.
READING_ORDER = [
    "metrics", "schedules", "listing", "sizes", "images", "targets", "labels", "cache", "dataset",
    "workers", "fetcher", "loader", "splits", "databunch", "datablock", "geometry", "transforms",
    "resnet", "groups", "recorder", "checkpoints", "training", "unet", "predictions", "learner",
    "lr_rule", "lr_finder", "vision",
    # What comes after training, and will move to extras:
    "tta", "inference", "submission", "thresholds", "interpret", "findings", "leaks", "doctor"]
