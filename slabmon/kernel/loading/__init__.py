"""Compiling with bcc in a child process, loading and attaching."""
