"""Simulate single-particle cryo-EM datasets, reconstruct them, and measure the result against a hidden truth."""

__version__ = "0.1.0"
