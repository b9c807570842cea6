#!/usr/bin/env python3
"""The main job: messages by SMTP in, durable, and out to a sink; one table; nothing left running. Exit status 1: something was lost."""
import os
import sys

import harness


def main():
    harness.exit_on_signals()
    size = os.environ.get("SIZE") or "10k"
    try:
        got = harness.through(harness.amount("MESSAGES", 50_000), sessions=harness.amount("SESSIONS", 100), size=size)
    except harness.Failed as failed:
        sys.exit(f"demo: {failed}")
    for name, value in (
        ("accepted/s", f"{got['accepted_per_s']:,.0f}"),
        ("delivered/s", f"{got['relayed_per_s']:,.0f}"),
        ("lost", got["lost"]),
        ("duplicates", got["duplicates"]),
        ("250 latency p50 / p99, ms", f"{got['accept_p50_ms']} / {got['accept_p99_ms']}"),
        ("end to end p50 / p99, ms", f"{got['end_to_end_p50_ms']} / {got['end_to_end_p99_ms']}"),
        ("server CPU per message, µs", round(got["cpu_us_per_message"], 1)),
        ("server RSS peak, MiB", round(got["rss_peak_mib"], 1)),
    ):
        print(f"{name:<30} {value}")
    return 1 if got["lost"] or got["duplicates"] else 0


if __name__ == "__main__":
    sys.exit(main())
