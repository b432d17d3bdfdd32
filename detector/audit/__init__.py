"""What makes a result checkable: reports, logs, baselines, proofs, self-tests."""
