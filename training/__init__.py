"""A run around a fit: folder, logger, callbacks, pictures."""
