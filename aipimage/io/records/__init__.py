"""Records to and from bytes: they are compressed, sealed and digested, and verified when read.

In go plain bytes with keys, or stored bytes with a reference; out come records, or plain bytes that
passed every check. This room opens no files. Read ``records.py`` first, then ``cipher.py``.
"""
