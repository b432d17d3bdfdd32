"""Explanations of a score: influence and heat maps."""
