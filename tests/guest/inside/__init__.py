"""Tests that run in the guest: see tests/guest."""
