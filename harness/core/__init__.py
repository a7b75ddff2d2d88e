"""What every room uses: records, errors, seeding, text, paths, checksummed files."""
