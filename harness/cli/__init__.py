"""What all commands share: flags, exit codes, signals, progress."""
