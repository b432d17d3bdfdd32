"""Fitting, calibrating and measuring models. Nothing that scores images imports it."""
