"""Proves generated forwards against the originals, class by class, on tiny random models."""
