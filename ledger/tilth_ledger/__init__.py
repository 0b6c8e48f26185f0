"""The core of Tilth's ledger: pure, sans-IO. It decides; bytes, ticks and rows go in, effects come out."""
