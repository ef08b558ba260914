"""The journal of ext3 and ext4: its superblock, its transactions, and fast commits.

In goes the content of the journal; out come its transactions, and the blocks that each writes or
revokes. Read ``scan.py`` first, then ``tags.py`` and ``fastcommit.py``.

ext4 Data Structures, "Journal (jbd2)"; what a mount does with it is as in Linux, fs/jbd2/recovery.c
and fs/ext4/fast_commit.c.
"""
