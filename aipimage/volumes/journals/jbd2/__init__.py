"""The journal of ext3 and ext4: its superblock, its transactions, and fast commits.

ext4 Data Structures, "Journal (jbd2)"; what a mount does with it is as in Linux, fs/jbd2/recovery.c
and fs/ext4/fast_commit.c.
"""
