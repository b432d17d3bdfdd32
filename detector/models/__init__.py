"""Models: cards, the image tower, probes, devices. Models are loaded and applied here, never fitted."""
