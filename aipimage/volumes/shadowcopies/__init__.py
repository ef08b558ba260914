"""Shadow copies of Windows (VSS): in goes a volume, out come its copies as block sources.

A shadow copy keeps what was overwritten since it was made, and reads all else where it still lies,
deleted files too. Read ``catalogue.py`` first, which finds the copies; ``descriptors.py`` reads
what one of them keeps, and ``source.py`` puts a copy together.

Source: libvshadow, "Volume Shadow Snapshot (VSS) format", cited by section. What it leaves open is
refused here, or kept as a whole.
"""
