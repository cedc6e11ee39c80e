"""The kernel side: facts, plan, loading, and reading of what the programs count."""
