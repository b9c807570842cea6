#!/usr/bin/env python3
"""Ports, CPU time and the result table of the demo. Exit status 1: something was lost."""
import argparse, json, os, socket, sys


def ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    print(*(s.getsockname()[1] for s in held))


def tree(root):
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(pid))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_ms(root):
    """User and system time of the process tree, ended children included."""
    ticks = 0
    for pid in tree(root):
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks * 1000 // os.sysconf("SC_CLK_TCK")


def last_json(path):
    """The last JSON object in a report; empty when there is none."""
    try:
        text = open(path).read().strip()
    except OSError:
        return {}
    for part in [text, *reversed(text.splitlines())]:
        try:
            return json.loads(part)
        except ValueError:
            continue
    return {}


def pick(report, *names):
    """The first of these fields, at any depth."""
    for name in names:
        todo = [report]
        for item in todo:
            if isinstance(item, dict):
                if name in item:
                    return item[name]
                todo += item.values()
    return None


def percentiles(figures):
    return None if figures is None else (figures["p50_ms"], figures["p99_ms"])


def whole(number):
    return None if number is None else f"{number:,.0f}"


def table(args):
    source, sink = last_json(args.source), last_json(args.sink)
    lost = pick(sink, "lost", "missing")
    twice = pick(sink, "duplicates")
    rows = [
        ("accepted/s", whole(pick(source, "messages_per_second"))),
        ("delivered/s", whole(pick(sink, "messages_per_second"))),
        ("lost", lost),
        ("duplicates", twice),
        ("250 latency p50 / p99, ms", percentiles(pick(source, "dot_to_250"))),
        ("end to end p50 / p99, ms", percentiles(pick(sink, "latency"))),
        ("server CPU per message, µs", round(args.cpu_ms * 1000 / args.messages, 1)),
        ("server RSS peak, MiB", round(args.rss_kib / 1024, 1)),
    ]
    for name, value in rows:
        value = " / ".join(map(str, value)) if isinstance(value, tuple) else value
        print(f"{name:<30} {'not reported' if value is None else value}")
    return 0 if lost == 0 and twice == 0 else 1


def main():
    parser = argparse.ArgumentParser()
    sub = parser.add_subparsers(dest="do", required=True)
    sub.add_parser("ports").add_argument("count", type=int)
    sub.add_parser("cpu").add_argument("pid", type=int)
    t = sub.add_parser("table")
    for flag, kind in (("--messages", int), ("--cpu-ms", int), ("--rss-kib", int), ("--source", str), ("--sink", str)):
        t.add_argument(flag, type=kind, required=True)
    args = parser.parse_args()
    if args.do == "ports":
        ports(args.count)
    elif args.do == "cpu":
        print(cpu_ms(args.pid))
    else:
        sys.exit(table(args))


main()
