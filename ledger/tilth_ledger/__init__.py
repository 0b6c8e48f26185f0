"""The core of the ledger: pure, sans-IO. Bytes, ticks and rows go in, decisions come out."""
