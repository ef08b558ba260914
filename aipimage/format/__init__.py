"""The format as values: each structure of docs/format.md as a pair of encoder and decoder.

In go values, out come bytes, and the reverse; every number passes a gate before it is used. There
are no files, threads, keys or C here. Read ``constants.py`` and ``record.py`` first.
"""
