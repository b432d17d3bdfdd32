"""Clips: containers of moving pictures, and which of their frames are judged."""
