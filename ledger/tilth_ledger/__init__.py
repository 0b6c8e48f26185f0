"""The core of the ledger: pure, sans-IO. It decides; bytes, ticks and rows go in, effects come out."""
