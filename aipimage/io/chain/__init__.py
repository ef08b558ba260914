"""Chains of images: members, increments, merging, differences (docs/format.md, sections 9.3 to
9.5).
"""
