"""Suites: scenarios x methods x parameters x seeds, run on dask, resumable and never computed twice."""
