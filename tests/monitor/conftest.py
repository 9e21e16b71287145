"""Fixtures of stored runs."""

from stored_runs import build, run_dir

__all__ = ["build", "run_dir"]
