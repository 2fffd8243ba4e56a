"""Estimates from a cross-validation."""
