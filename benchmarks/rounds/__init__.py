"""Contestants of a benchmark in turn, each in a process of its own."""
