mailgate.testing.transcript plays written conversations against any protocol, in memory, in every
segmentation, on a clock that the script moves.
