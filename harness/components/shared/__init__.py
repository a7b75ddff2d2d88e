"""What components share: files, tables, images, layers, predictions."""
