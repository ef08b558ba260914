"""Partition tables: read from any block source, written back to any sink."""
