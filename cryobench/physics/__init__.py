"""Cryo-EM image formation: pure torch, device-agnostic, no input or output."""
