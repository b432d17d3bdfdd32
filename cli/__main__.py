"""``python -m aidetect.cli``."""

from .main import run

run()
