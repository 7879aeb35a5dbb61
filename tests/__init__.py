"""One folder per package, named like it; acceptance/ sees the whole from outside."""
