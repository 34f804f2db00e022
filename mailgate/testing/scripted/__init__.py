"""Servers that are nothing but a written conversation: what no fault covers, and recordings of real ones."""
