"""Increments: from block sources and a parent to an image of what changed (docs/format.md, sections
7, 8.1 and 9.4).

In go a request, as in ``creating``, and the parent that ``parent.py`` finds. Out comes an image
whose map refers to records of the parent where nothing changed. Read ``create.py`` first, the entry
of all creation; then ``job.py``, and ``devicework.py`` for one device: what to look at
(``plan.py``), how to find changes in it (``scan.py``), frames of changed clusters
(``grouping.py``), and the new map and digests (``update.py``).
"""
