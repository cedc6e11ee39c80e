"""Tests of single modules: no root, no bcc, no network."""
