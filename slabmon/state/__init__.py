"""What outlives the daemon: kernel objects, and what Python knows about them."""
