"""What several components share: files, tables, images, layers, metrics."""
