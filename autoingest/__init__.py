"""Ingest Rubin Observatory images into a Butler repository as their object store announces them."""

__version__ = "0.1.0"
