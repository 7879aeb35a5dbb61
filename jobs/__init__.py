"""Jobs: work with a status, progress and an abort that is never lost; no disk, no lease."""
