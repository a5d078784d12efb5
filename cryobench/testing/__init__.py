"""For authors of methods: conformance tests and tiny datasets."""
