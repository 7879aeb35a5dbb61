"""The two ends of a copy, and the copy itself: storage, leases and tools composed."""
