"""Everything a node keeps on disk: SQLite tables, the journal, blobs."""
