#!/usr/bin/env python3
"""What the harness promises of its own bookkeeping: turns, medians, what is skipped and why, results in parts, and a gate that fails.
No server is started and nothing is measured."""
import contextlib
import io
import pathlib
import sys
import tempfile
import types
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent
for folder in ("tools", "bench/peers", "bench/count"):
    sys.path.insert(0, str(ROOT / folder))
import gate
import harness
import measure
import report
import runner
import scenarios
from install import Missing
from peer import Peer

WORLD = types.SimpleNamespace(is_root=False)
MACHINE = {"cpu": "x", "cpus": 2, "memory_mib": 1, "kernel": "k", "disk": "ext4", "accounting": "a", "commit": "c", "changed_since": False}


def fake(name, **more):
    """A server that is never started."""
    given = {"name": name, "package": name, "version": "1", "durability": {"as shipped": "synced"}, **more}
    return type(name, (Peer,), given)


def figures(rate):
    return {"accepted_per_s": rate, "relayed_per_s": rate, "cpu_s_per_1000": 1 / rate}


class Quiet(unittest.TestCase):
    """What the harness tells while it works is not for a test's reader."""

    def setUp(self):
        self.told = io.StringIO()
        self.enterContext(contextlib.redirect_stdout(self.told))

    def measured(self, peers, rates, name="relay", values=None, target=None, rounds=3, machine=MACHINE):
        """Runs of these servers at `rates`, by server a list that they have in turn; who ran, in order, and what was skipped."""
        turns, skipped = [], {}
        scenario = scenarios.read({"rounds": rounds})[name]

        def one(_world, peer, _scenario, _point, _messages):
            turns.append(peer.name)
            rate = rates[peer.name].pop(0)
            if isinstance(rate, Exception):
                raise rate
            return figures(rate)

        def calibrate(_world, peer, _scenario, _point):
            if peer.name == "uncalled":
                raise Missing("no greeting")
            return 100

        with mock.patch.object(measure, "one", one), mock.patch.object(measure, "calibrate", calibrate):
            if target is None:
                found = runner.measure_point(WORLD, scenario, scenario.points[0][1], peers, skipped)
                return found, turns, skipped
            runner.measure_scenario(WORLD, scenario, peers, {}, machine, values, target)
        return None


class Turns(Quiet):
    def test_servers_take_turns_and_none_always_follows_the_same_one(self):
        peers = [fake(name) for name in "abc"]
        _, turns, _ = self.measured(peers, {name: [1, 2, 3] for name in "abc"})
        self.assertEqual("".join(turns), "abcbcacab")

    def test_a_figure_is_the_median_with_the_least_and_the_most(self):
        found, _, _ = self.measured([fake("a")], {"a": [30, 10, 20]})
        self.assertEqual(found["a"]["figures"]["accepted_per_s"], {"median": 20, "min": 10, "max": 30})
        self.assertEqual(found["a"]["rounds"], 3)
        self.assertEqual(harness.cell({"median": 20, "min": 10, "max": 30}, 0), "20 (10 to 30)")

    def test_who_cannot_be_measured_is_skipped_by_name_with_the_reason(self):
        peers = [fake("a"), fake("uncalled"), fake("rooted", needs_root=True), fake("narrow", sessions_max=1), fake("breaks")]
        found, _, skipped = self.measured(peers, {"a": [1, 1, 1], "breaks": [1, harness.Failed("it hung"), 1]})
        self.assertEqual(set(found), {"a", "breaks"})
        self.assertEqual(skipped.pop("narrow")[:20], "one process for each")
        self.assertEqual(skipped, {"uncalled": "no greeting", "rooted": "starts as root only", "breaks": "round 2: it hung"})
        self.assertEqual(found["breaks"]["rounds"], 2)


class Parts(Quiet):
    def setUp(self):
        super().setUp()
        self.target = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "domains.json"

    def part(self, names, values, rate, **more):
        peers = [fake(name) for name in names]
        self.measured(peers, {name: [rate] * 9 for name in names}, "domains", set(values), self.target, **more)
        points = report.json.loads(self.target.read_text())["points"]
        return {point["value"]: {name: own["figures"]["relayed_per_s"]["median"] for name, own in point["peers"].items()} for point in points}

    def test_parts_of_an_axis_add_up_and_a_place_measured_again_is_replaced(self):
        self.part(["a", "b"], ["100"], 5)
        self.part(["a"], ["1"], 6)
        self.assertEqual(self.part(["a"], ["100"], 7), {1: {"a": 6}, 100: {"a": 7, "b": 5}})

    def test_figures_of_another_machine_are_not_kept(self):
        self.part(["a"], ["100"], 5)
        self.assertEqual(self.part(["a"], ["1"], 6, machine={**MACHINE, "kernel": "other"}), {1: {"a": 6}})


class Reports(unittest.TestCase):
    def result(self, points):
        return {"scenario": "lanes", "axis": "connections", "label": "connections", "points": points, "servers": {}}

    def test_who_was_not_measured_is_named(self):
        ours = {"posthaste": {"figures": {}}}
        remarks = report.remarks(self.result([
            {"value": 1, "peers": ours, "skipped": {"exim": "no bound"}},
            {"value": 4, "peers": ours, "skipped": {}},
        ]))
        self.assertEqual(remarks, [
            "* Not measured: connections 16, 64.",
            "* Not measured: postfix, opensmtpd, haraka.",
            "* Not measured: connections 4: exim.",
            "* Not compared: connections 1: exim: no bound.",
        ])

    def test_what_a_250_means_is_told_by_the_servers_class(self):
        about = {"version": "1", "durability": {"as shipped": ""}}
        result = {**self.result([]), "servers": {peer.name: about for peer in runner.ALL}}
        told = "\n".join(report.servers([result]))
        for peer in runner.ALL:
            for text in peer.durability.values():
                self.assertTrue(text and text in told, peer.name)

    def test_a_server_that_does_not_say_it_is_refused(self):
        result = {**self.result([]), "servers": {"unknown": {"version": "1", "durability": {"as shipped": ""}}}}
        with self.assertRaises(SystemExit) as refused:
            report.servers([result])
        self.assertIn("a 250 of unknown", str(refused.exception))

    def test_costs_are_told_of_what_has_figures_alone(self):
        cost = lambda ms: {"posthaste": {"figures": {"cpu_s_per_1000": {"median": ms}}}}
        points = [{"value": 1, "peers": cost(0.5), "skipped": {}}, {"value": 64, "peers": cost(0.25), "skipped": {}}]
        told = report.costs([self.result(points)])
        self.assertEqual(len(told), 1)
        self.assertIn("0.500 and 0.250 ms for 1 and 64 ([lanes](#lanes))", told[0])
        self.assertEqual(report.costs([]), [])


class Gate(Quiet):
    def test_growth_beyond_the_bound_a_new_and_a_missing_count_fail(self):
        known = {"same": 100_000, "less": 100_000, "grown": 100_000, "gone": 1}
        bad = gate.judge(known, {"same": 102_999, "less": 50_000, "grown": 103_001, "new": 1}, gate.GROWTH_MAX)
        self.assertEqual([line.split()[0] for line in bad], ["grown", "new", "gone"])

    def test_nothing_else_fails(self):
        self.assertEqual(gate.judge({"same": 100}, {"same": 102}, gate.GROWTH_MAX), [])


if __name__ == "__main__":
    unittest.main()
