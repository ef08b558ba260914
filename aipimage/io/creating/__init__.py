"""Creating: from block sources to one full image, resumed where an earlier run was interrupted.

In go a request (``request.py``: target, open sources, ``options.py``) and, inside of a chain, the
image before it. Out comes a file, a set of parts or a pipe's stream, and a ``CreateResult``. Read
``job.py`` first: it lets ``packer.py`` make sealed frames on worker threads, appends them through
``imagewriter.py``, and writes checkpoints. ``reopen.py`` opens what an interrupted run left. The
entry is ``increment/create.py``, which chooses between a full image and an increment.
``splitting.py`` copies an image into parts and back.
"""
