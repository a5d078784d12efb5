"""The method contract, the registry of methods, and the harness that runs them."""
