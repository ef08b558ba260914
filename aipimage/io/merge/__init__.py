"""Merging a run of images into one (docs/format.md, section 9.5)."""
