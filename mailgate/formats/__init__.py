"""How other programs keep mail, and what they know of it: read, never changed; nothing of a store."""
