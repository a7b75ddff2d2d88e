"""What every other package uses: records, errors, metrics, seeding, text, paths and files."""
