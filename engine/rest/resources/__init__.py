"""What REST serves: one kind of thing, one module."""
