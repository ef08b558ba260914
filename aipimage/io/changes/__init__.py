"""What changed on a disk, in every form that it is told in (docs/tracking.md)."""
