"""A page in a browser: what the service's console and the harness's have in common, and the service's own."""
