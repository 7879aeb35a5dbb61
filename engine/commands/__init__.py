"""Commands of the engine, in stages that are journalled before they act."""
