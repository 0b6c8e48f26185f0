"""Tilth: federated learning with a ledger anyone can verify."""
