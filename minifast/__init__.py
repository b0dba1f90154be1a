"""minifast: lesson 3 of fast.ai's 2019 course, rebuilt from scratch, small enough to read."""

__version__ = "0.2.0"

# The core, in reading order: each module imports only earlier ones, and tools.
READING_ORDER = [
    "metrics", "schedules", "images", "targets", "dataset", "loader", "databunch", "listing",
    "datablock", "geometry", "transforms", "resnet", "unet", "groups", "recorder", "results",
    "learner", "lr_finder", "vision"]
