"""The part of the node that works: data, blobs, and the tasks that run on them."""
