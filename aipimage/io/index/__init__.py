"""Indexes of an image: the map of each device, frame tables and block digests (docs/format.md,
sections 6 to 8).

In go extents, frames and digests, or references to pages; out come pages, or extents, frames and
digests by their place. A map is built by ``mapbuild.py``, read by ``devicemap.py``, and updated for
an increment by ``mapupdate.py`` over ``mapcursor.py``; read these first. ``trees.py`` has the frame
tables, ``digests.py`` and ``layerbuild.py`` the block digests, ``origins.py`` the numbers that
stand for origins, and ``diff.py`` compares two maps.
"""
