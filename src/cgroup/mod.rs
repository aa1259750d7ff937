//! Control groups of version 2: making, filling, limiting, counting.
