"""Pure functions over snapshots."""
