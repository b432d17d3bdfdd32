"""Pixels: decoding, views, margins, laundering, re-packing. Knows nothing of models."""
