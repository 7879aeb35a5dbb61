"""Leases: value block, lease volume, stores, and the verbs over them."""
