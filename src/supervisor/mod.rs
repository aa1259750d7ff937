//! The process beside one container: its pipes or terminal, log, control socket, exit status.
