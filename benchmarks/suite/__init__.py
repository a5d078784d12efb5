"""asv benchmarks. One torch thread, so that numbers of different machines' core counts compare."""
