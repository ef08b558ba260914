"""Reading an image: from a path to the bytes of its devices (docs/format.md, section 2).

In go a path, a password and directories to search; out comes an ``ImageReader`` with ``Device``
objects, whose bytes were all verified. Read ``image.py`` first, then ``device.py``.
``members.py`` finds other files of the chain and reads records in them, ``bulkread.py`` reads many
frames at once, and ``restore.py`` writes ranges of a device to a sink: data, zeros or discards;
for targets of another size ``volumes/restoring`` chooses the ranges. :class:`aipimage.Image`
adds what is asked of an image as a whole.
"""
