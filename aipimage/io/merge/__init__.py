"""Merging: from consecutive images of a chain to one that stands for them (docs/format.md, section
9.5).

In go the paths of the images. Out comes an image with the content of the last one, and a
``MergeResult``; where it was asked for the old images are removed. Read ``job.py`` first: it puts
the images in order (``run.py``), finds the records that the last one needs (``plan.py``), and
copies them as they are stored (``copying.py``) into the new file (``assemble.py``). ``note.py``
says which merge a partial file is of.
"""
