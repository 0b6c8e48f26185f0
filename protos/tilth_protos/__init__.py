"""Generated protobuf and gRPC code (made by ../generate.py from the .proto files; never edited)."""
