"""From BPF maps to the rows of a snapshot."""
