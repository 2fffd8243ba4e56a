"""What a Stream is made of: files, their order, labels, splits, statistics, batches."""
