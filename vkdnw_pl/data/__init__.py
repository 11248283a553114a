"""Images: data sets and input batches."""
