"""Training: generators of records. They write no files, know no MLflow and call nothing back."""
