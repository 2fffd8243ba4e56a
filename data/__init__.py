"""Tables: read, split, standardized, batched."""
