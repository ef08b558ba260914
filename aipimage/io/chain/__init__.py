"""Chains of images: which files belong together, and what is wrong with them (docs/format.md,
section 9.4).

In go directories and the id of a chain, or an opened image; out come ``ChainMembers``, in order,
each with its state. Read ``links.py`` first: it resolves which image is the parent of which.
``chain.py`` is the chain that results, ``finding.py`` looks for chains in directories,
``unlocking.py`` gets their keys, and ``files.py`` keeps what a chain needs of each file. Reading
data does not come here: ``reading/members.py`` finds the file that holds a record.
"""
