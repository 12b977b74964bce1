"""One protocol and one set of metrics for every path."""
