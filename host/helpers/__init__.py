"""The helper programs of a host: each attaches and detaches the volumes of some drivers."""
