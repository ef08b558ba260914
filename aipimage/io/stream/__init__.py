"""The stream of an image: one file, a set of parts or a pipe, with header, trailer and spare area.

In go paths and buffers; out come streams that grow, streams that are read at any offset, and the
header, trailer and seal of an image. Read ``outstream.py`` and ``instream.py`` first.
"""
