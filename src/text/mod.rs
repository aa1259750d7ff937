//! Text in and out: sizes, durations, times, signals, tables, `--format` templates.
//! Pure functions without IO.
