"""Fuzzing of every parser: what any octets may do, and what they may not.

A target is a row of `tests.fuzz.table`: seeds that are valid, words that matter to it, and a check that
fails when something is wrong. The suite runs a few hundred inputs of each; `python -m tests.fuzz` as
many as are wanted. Inputs follow from the seed, the target's name and a number alone, and so does the
verdict on each: what was found once is found again.
"""
