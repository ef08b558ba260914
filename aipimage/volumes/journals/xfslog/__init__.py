"""The log of XFS: its head and tail, its records, and the transactions in them.

"XFS Algorithms & Data Structures", section Journaling Log; what a mount does with it is as in
Linux.
"""
