"""The machine: files by their paths, mounts, threads in a pipeline, progress, buffers and caches.

In go paths, bytes and functions; out come open files, results in order, and typed errors in place
of ``OSError``. This room knows nothing of images. Read ``storage.py`` first.
"""
