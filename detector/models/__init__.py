"""Models: cards, the image tower, probes, devices. Loading and applying, never fitting."""
