"""HTTP/1.1 in and out; knows nothing of quotes."""
