"""Virtual disks for several folders of tests: by hand, in memory, and read by other programs."""
