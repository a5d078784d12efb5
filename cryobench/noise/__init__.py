"""Noise of real micrographs: patches cut from them, generators fitted to patches, and how well the one is like the other."""
