"""Chains of images: which files belong together, and what is wrong with them (docs/format.md,
section 9.4).

In go directories and the id of a chain, or an opened image; out come ``ChainMembers``, in order,
each with its state. Read ``chain.py`` first. ``finding.py`` looks for chains in directories,
``unlocking.py`` gets their keys, ``files.py`` keeps what a chain needs of each file, and
``links.py`` resolves it: which image is the parent of which.
"""
