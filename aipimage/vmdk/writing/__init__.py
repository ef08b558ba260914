"""Writing virtual disks: a block source goes in, files come out, and a ``WriteResult``.

Read ``job`` first: ``write_vmdk`` is the whole way. ``plan`` says what the disk consists of,
``disks`` how it grows, of extents that ``flat`` and ``sparse`` write, or as the one ``stream``.
``files`` holds files that get their names when all is whole, ``naming`` what an interruption leaves
then, ``state`` the checkpoints. A stream that goes into something else, such as an OVA, is written
by ``stream.stream_disk``.
"""
