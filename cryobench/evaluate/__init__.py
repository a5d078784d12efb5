"""Resolution measured: alignment, Fourier shell correlation, and the run over stores."""
