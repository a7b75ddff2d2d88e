"""What components share: files, tables, images, layers, update rules, predictions."""
