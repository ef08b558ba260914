"""Chains of images: their files, what they need, where they differ (docs/format.md, 9.3, 9.4)."""
