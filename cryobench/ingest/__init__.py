"""Foreign files into stores, and stores into foreign files."""
