//! The command line: one command a file, flags to typed arguments, results to text.
