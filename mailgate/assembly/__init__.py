"""The parts joined as a configuration says. Nothing made here opens a file, a thread or a socket yet."""
