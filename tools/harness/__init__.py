"""What the scripts that measure share: servers, sinks and sources that are started and ended, CPU time and memory from
/proc, medians with their spread, facts of the machine, result files. What is measured is each script's own."""
from .figures import cell, machine, moment, show, spread, write
from .process import cpu_s, free_port, memory_mib, stat
from .run import BIN, LOAD, ROOT, Failed, Server, Sink, amount, exit_on_signals, source, through
