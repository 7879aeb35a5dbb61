"""Storage domains and images: what lies on disk, judged before it is used."""
