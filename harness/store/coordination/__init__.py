"""Claims, leases and heartbeats between processes that share a store."""
