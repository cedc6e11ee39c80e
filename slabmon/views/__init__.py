"""Views, columns and tables, shared by every output."""
