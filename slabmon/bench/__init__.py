"""What slabmon costs on this host, measured: `slabmon bench`."""
