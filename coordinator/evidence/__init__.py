"""Evidence as it arrives: pieces into a spool, verified by hash, then to a folder or an S3-compatible bucket."""
