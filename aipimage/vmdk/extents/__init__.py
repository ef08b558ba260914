"""Readers of extents, one module a kind of file.

In goes an open file with what the descriptor says of it; out comes an ``ExtentReader``
(``aipimage.vmdk.model``), which says what is where and reads it. ``flat`` is the simplest: read it
first. ``hosted`` reads KDMV files with ``header``, ``tables`` and, for streams, ``compressed``;
``cowd`` and ``sesparse`` share ``esx``. ``pool`` keeps few of a disk's many files open.
"""
