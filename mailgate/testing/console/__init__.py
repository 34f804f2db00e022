"""The harness's console: sessions as they happen, mail, faults and scenarios, in a browser."""
