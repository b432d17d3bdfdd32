"""What metadata, C2PA manifests and watermarks say. Never part of a score."""
