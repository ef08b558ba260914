"""What of a disk is in use: partition tables, file systems and their allocation maps.

A parser trusts a structure only where everything that it can be compared with agrees. Where there
is any doubt, the whole volume counts as in use and the result says why.
"""
