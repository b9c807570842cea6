//! The brain of one shard: lanes, connections, attempts and what follows from each outcome.
