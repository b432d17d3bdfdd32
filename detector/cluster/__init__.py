"""Scanning on many machines with Ray Data.

The listing becomes a dataset of sources (`listing`). Tasks read and decode them, and actors that hold the
model score them (`workers`). Ray writes the records as Parquet parts into a folder (`parts`); `run` joins
these.
"""
