"""What all commands share: flags, exit codes, error messages, progress."""
