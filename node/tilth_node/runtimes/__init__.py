"""What isolates a task: one interface, several runtimes."""
