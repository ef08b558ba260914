"""Frozen images, good and hostile; ``build_vectors.py`` made them from docs/format.md alone."""
