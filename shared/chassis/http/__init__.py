"""HTTP/1.1 for requests that arrive and for requests to other services. No module here deals with quotes."""
