#!/usr/bin/env python3
"""What it costs to push: from scripted servers to a receiver on the same machine, all that the exporter collects.

Starts a farm of scripted servers (tests/support/src/bin/farm.rs) and a receiver that keeps nothing
(tests/support/src/bin/sink.rs), and measures the exporter between them: samples a second, CPU of ours for each
million of them, memory and disk; then the receiver is away for a while and comes back, and what waited goes out.
The same without an output says what part of it is the push.  Loopback only; it ends only the processes it started.
"""
import argparse, json, os, resource, shutil, subprocess, tempfile, time

from exporter_bench import Http, PLAIN, Table, body_of, children, cpu_s, end, end_all, free_port, log, mem, spawn

NAME = "ours"


class Helper:
    """A process that answers a line by a line."""

    def __init__(self, *words):
        self.p = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(self.p)
        self.first = self.p.stdout.readline().strip()
        if not self.first:
            raise SystemExit(f"{words[0]} did not start")

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().strip()


class Exporter:
    def __init__(self, args, targets, url):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(dir=args.tmp)
        listed = os.path.join(self.folder, "targets.json")
        with open(listed, "w") as f:
            json.dump([{"targets": targets}], f)
        config = os.path.join(self.folder, "redvigil.yaml")
        with open(config, "w") as f:
            f.write(f"global: {{ scrape_interval: {args.interval}s, scrape_timeout: {min(args.interval, 5)}s }}\n"
                    f"services:\n  - name: farm\n    file_sd: {{ files: [\"{listed}\"] }}\n")
            if url:
                f.write(f"outputs:\n  - name: sink\n    remote_write: {{ url: \"{url}\", version: \"2.0\" }}\n"
                        f"    queue: {{ min_free: 1MiB }}\n")
        self.log = os.path.join(self.folder, "log")
        self.p = spawn([args.program, f"--web.listen-address=127.0.0.1:{self.port}", f"--config.file={config}",
                        f"--storage.path={self.folder}/state"], self.log)
        until = time.monotonic() + 10
        while True:
            if self.p.poll() is not None or time.monotonic() > until:
                with open(self.log) as f:
                    raise SystemExit(f"the exporter did not start: {f.read()[-2000:]}")
            try:
                self.get("/health")
                break
            except (OSError, EOFError):
                time.sleep(0.02)

    def get(self, path):
        _, status, head, parts = Http(self.port, 60).get(path, PLAIN)
        if status != 200:
            raise SystemExit(f"{path}: HTTP {status}")
        return body_of(head, parts)

    def own(self):
        """Our own families: name without labels to sum of values."""
        found = {}
        for line in self.get("/-/metrics").decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
                found[name] = found.get(name, 0) + value
        return found

    def disk(self):
        state = os.path.join(self.folder, "state")
        return sum(os.stat(os.path.join(at, f)).st_blocks * 512 for at, _, files in os.walk(state) for f in files)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "farm", "sink"):
        ap.add_argument(f"--{name}", required=True)
    ap.add_argument("--targets", type=int, default=1000)
    ap.add_argument("--interval", type=int, default=4, help="scrape_interval in s")
    ap.add_argument("--seconds", type=int, default=40, help="how long each part is watched")
    ap.add_argument("--away", type=int, default=60, help="how long the receiver is away, in s")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.tmp = tempfile.mkdtemp(prefix="push-bench-")
    t = Table([NAME])
    farm, sink = Helper(args.farm, str(args.targets)), Helper(args.sink)
    targets = [x for group in json.loads(farm.first) for x in group["targets"]]
    taken = lambda: [int(x) for x in sink.say("count").split()]

    e = Exporter(args, targets, None)
    time.sleep(2 * args.interval + 2)
    c0, t0 = cpu_s(e.p.pid), time.monotonic()
    time.sleep(args.seconds)
    collecting = (cpu_s(e.p.pid) - c0) / (time.monotonic() - t0)
    t.put("without an output", "CPU", NAME, 100 * collecting, "% of a core")
    t.put("without an output", "resident", NAME, mem(e.p.pid)["VmRSS"], "MiB")
    end(e.p)

    e = Exporter(args, targets, f"http://127.0.0.1:{sink.first}/api/v1/write")
    time.sleep(2 * args.interval + 2)
    put = lambda section, metric, value, unit: t.put(section, metric, NAME, value, unit)
    (r0, s0, b0), c0, t0 = taken(), cpu_s(e.p.pid), time.monotonic()
    time.sleep(args.seconds)
    (r1, s1, b1), c1, took = taken(), cpu_s(e.p.pid), time.monotonic() - t0
    S = "with an output"
    rate, cpu = (s1 - s0) / took, (c1 - c0) / took
    put(S, "samples delivered a second", rate, "")
    put(S, "requests a second", (r1 - r0) / took, "")
    put(S, "bytes on the wire a sample", (b1 - b0) / max(1, s1 - s0), "")
    put(S, "CPU", 100 * cpu, "% of a core")
    put(S, "samples for a second of CPU, collecting and all", rate / cpu, "")
    put(S, "samples for a second of CPU of the push alone", rate / max(1e-9, cpu - collecting), "")
    put(S, "resident", mem(e.p.pid)["VmRSS"], "MiB")

    S = f"the receiver is away for {args.away} s"
    sink.say("away")
    before, most = e.own(), 0
    for _ in range(args.away):
        time.sleep(1)
        most = max(most, mem(e.p.pid)["VmRSS"])
    after, disk = e.own(), e.disk()
    waiting = after["redvigil_output_samples_pending"]
    put(S, "samples that wait", waiting, "")
    put(S, "bytes on disk a sample", disk / max(1, waiting), "")
    put(S, "most resident", most, "MiB")
    (_, s0, _), c0, t0 = taken(), cpu_s(e.p.pid), time.monotonic()
    sink.say("back")
    first = None
    while True:
        time.sleep(0.1)
        s1 = taken()[1]
        if first is None and s1 > s0:
            first, c0, s0 = time.monotonic(), cpu_s(e.p.pid), s1
        if first and e.own()["redvigil_output_samples_pending"] < rate * 2:
            break
        if time.monotonic() - t0 > 300:
            raise SystemExit("waited 300 s in vain for what waited to go out")
    took = time.monotonic() - first
    s1, c1 = taken()[1], cpu_s(e.p.pid)
    put(S, "back: seconds until the first request is taken", first - t0, "s")
    put(S, "back: seconds until nothing waits", took, "s")
    put(S, "back: samples delivered a second", (s1 - s0) / took, "")
    put(S, "back: samples for a second of CPU", (s1 - s0) / max(1e-9, c1 - c0), "")
    own = e.own()
    left = own["redvigil_output_samples_recovered"] + own["redvigil_output_samples_accepted_total"] - own["redvigil_output_samples_delivered_total"] \
        - own.get("redvigil_output_samples_dropped_total", 0) - own["redvigil_output_samples_pending"]
    t.notes.append(f"recovered + accepted - delivered - dropped - pending: {left:.0f}; dropped {own.get('redvigil_output_samples_dropped_total', 0):.0f}")
    t.notes.append(f"goal: samples a second on one core of ours, at least 200000: found {rate / cpu:.0f}: {'met' if rate / cpu >= 2e5 else 'MISSED'}")
    end(e.p)
    end(farm.p)
    end(sink.p)
    print(t.show())
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"taken": time.strftime("%FT%TZ", time.gmtime()), "cores": os.cpu_count(), "targets": args.targets,
                       "interval": args.interval, "rows": t.rows, "notes": t.notes}, f, indent=1)
    end_all()
    shutil.rmtree(args.tmp, ignore_errors=True)


if __name__ == "__main__":
    main()
