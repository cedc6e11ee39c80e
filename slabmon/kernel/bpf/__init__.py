"""bpf(2) system calls, mapped maps, the ring buffer, record layouts shared with the C sources."""
