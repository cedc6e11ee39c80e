"""All tests of slabmon."""
