//! When work is due: retry schedule, ready and waiting structures. Never knows a connection.
