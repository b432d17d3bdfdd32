"""``python -m aidetect.cli``."""

from .main import main

main()
