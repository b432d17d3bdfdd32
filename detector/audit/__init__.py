"""What makes results verifiable: reports, logs, baselines, proofs, self-tests."""
