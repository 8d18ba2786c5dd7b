#!/usr/bin/env python3
"""What it costs to watch a fleet, and what its sick members cost the others.

Starts a farm of scripted servers (tests/support/src/bin/farm.rs), lets the exporter collect all of them each interval
and measures it: CPU, memory, time of a collection, one page of the whole fleet; then a second exporter beside it, half of
whose targets hang, or refuse, and the times of the healthy half in both.  The farm is a process of its own, so its CPU is not counted.  Loopback only;
it ends only the processes it started.  See README.md.
"""
import argparse, json, math, os, re, resource, shutil, subprocess, sys, tempfile, time

from exporter_bench import (Http, PLAIN, PROM, Table, body_of, children, cpu_s, end, end_all, free_port, log, mem,
                            others_busy, pct, reset_peak, spawn)

NAME = "ours"
DURATION = "redvigil_collection_duration_seconds"
INSTANCE = re.compile(rb'instance="([^"]*)"')


class Farm:
    """Scripted servers: the targets, and as many again as half of them, which can be told to misbehave."""

    def __init__(self, args):
        self.p = subprocess.Popen([*args.first, args.farm, str(args.targets + args.targets // 2)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(self.p)
        line = self.p.stdout.readline()
        if not line:
            raise SystemExit("the farm did not start")
        self.targets = [t for group in json.loads(line) for t in group["targets"]]

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline().strip()
        if answer.startswith("error") or not answer:
            raise SystemExit(f"farm: {line}: {answer}")
        return answer


class Exporter:
    """The exporter under test with two services, from one file each: one that is well, and `other`."""

    def __init__(self, args, healthy, other, name="healthy"):
        self.port, self.healthy = free_port(), name
        folder = tempfile.mkdtemp(dir=args.tmp)
        services = []
        for name, targets in ((name, healthy), ("other", other)):
            path = os.path.join(folder, name + ".json")
            with open(path, "w") as f:
                json.dump([{"targets": targets}], f)
            services.append(f"  - name: {name}\n    file_sd: {{ files: [\"{path}\"] }}\n")
        config = os.path.join(folder, "redvigil.yaml")
        with open(config, "w") as f:
            f.write(f"global: {{ scrape_interval: {args.interval}s, scrape_timeout: 5s }}\nservices:\n{''.join(services)}")
        self.log = os.path.join(folder, "log")
        self.p = spawn([*args.first, args.program, f"--web.listen-address=127.0.0.1:{self.port}", f"--config.file={config}",
                        *args.flag], self.log)
        self.pid = self.p.pid
        for _ in range(500):
            if self.p.poll() is not None:
                with open(self.log) as f:
                    raise SystemExit(f"the exporter ended at its start: {f.read()[-2000:]}")
            try:
                Http(self.port, 20).get("/health", PLAIN)
                break
            except (OSError, EOFError):
                time.sleep(0.01)

    def get(self, path, headers=PLAIN):
        """Seconds, the body as it came, its size on the wire."""
        took, status, head, parts = Http(self.port, 120).get(path, headers)
        if status != 200:
            raise SystemExit(f"{path}: HTTP {status}: {b''.join(parts)[:300]!r}")
        return took, body_of(head, parts), sum(map(len, parts))

    def health(self):
        """How many members of each service are in which state."""
        found = {}
        for service in json.loads(self.get("/api/v1/services")[1])["services"]:
            for member in service["members"]:
                key = service["name"], member["health"]
                found[key] = found.get(key, 0) + 1
        return found

    def wait_for(self, what, seconds):
        """Waits until this many members of the services are in these states."""
        until = time.monotonic() + seconds
        while True:
            found = self.health()
            if all(found.get(key, 0) == count for key, count in what.items()):
                return
            if time.monotonic() > until:
                raise SystemExit(f"waited {seconds} s in vain for {what}, found {found}")
            time.sleep(1)

    def buckets(self):
        """Whole collections of the healthy service so far, by their upper bound."""
        lines = re.findall(rb'^%s_bucket\{([^}]*)\} (\S+)' % DURATION.encode(), self.get("/-/metrics")[1], re.M)
        lines = [(x, n) for x, n in lines if b'service="%s"' % self.healthy.encode() in x and b'outcome="ok"' in x]
        found = {}
        for labels, n in lines:
            le = float(re.search(rb'le="([^"]*)"', labels)[1].replace(b"+Inf", b"inf"))
            found[le] = found.get(le, 0) + float(n)
        return found

    def last_durations(self):
        """Milliseconds of the last collection of each healthy member."""
        targets = json.loads(self.get("/api/v1/targets")[1])["targets"]
        took = [t["collection_seconds"] for t in targets if t["service"] == self.healthy]
        return [1000 * x for x in took if x is not None]

    def end(self):
        end(self.p)


def quantile(before, after, q):
    """Of what came in between, interpolated within its bucket as Prometheus does."""
    bounds = sorted(after)
    counts = [after[b] - before.get(b, 0) for b in bounds]
    if not counts or counts[-1] == 0:
        return math.nan
    rank, low, below = q * counts[-1], 0.0, 0
    for bound, count in zip(bounds, counts):
        if count >= rank:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / max(1, count - below)
        low, below = bound, count
    return math.nan


def side_by_side(args, t, section, exporters):
    """Times of collections of healthy members over a while, of exporters that run at the same time, so that whatever
    else the machine does is the same for all. Returns the p99 of each in ms."""
    before = {name: e.buckets() for name, e in exporters.items()}
    durations = {name: [] for name in exporters}
    b0, t0 = others_busy(), time.monotonic()
    while time.monotonic() - t0 < args.seconds:
        time.sleep(args.interval)
        for name, e in exporters.items():
            durations[name] += e.last_durations()
    busy = 100 * (others_busy() - b0) / (time.monotonic() - t0)
    for name, e in exporters.items():
        after = e.buckets()
        for q in (0.5, 0.99):
            t.put(section, f"p{q * 100:.0f} of {name}, by /api/v1/targets", NAME, pct(durations[name], q), "ms")
            t.put(section, f"p{q * 100:.0f} of {name}, by the histogram", NAME, 1000 * quantile(before[name], after, q), "ms")
    counts = ", ".join(f"{len(found)} durations of {name}" for name, found in durations.items())
    t.notes.append(f"{section}: {counts}; others {busy:.0f} %; health {[e.health() for e in exporters.values()]}")
    log(t.notes[-1])
    return {name: pct(found, .99) for name, found in durations.items()}


def watch(args, t, section, e, farm, window):
    """CPU, memory and times of collections over a while."""
    n = args.targets
    reset_peak(e.pid)
    h0, f0, b0, t0 = e.buckets(), cpu_s(farm.p.pid), others_busy(), time.monotonic()
    c0 = cpu_s(e.pid)
    time.sleep(window)
    c1, took = cpu_s(e.pid), time.monotonic() - t0
    m, h1, f1, b1 = mem(e.pid), e.buckets(), cpu_s(farm.p.pid), others_busy()
    durations = e.last_durations()
    for _ in range(args.readings - 1):
        time.sleep(args.interval)
        durations += e.last_durations()
    put = lambda metric, value, unit: t.put(section, metric, NAME, value, unit)
    put("CPU", 100 * (c1 - c0) / took, "% of a core")
    put("resident", m["VmRSS"], "MiB")
    put("peak resident", m["VmHWM"], "MiB")
    put("resident above that without targets, for each", (m["VmRSS"] - args.empty) * 1024 / n, "KiB")
    put("open files", m["fds"], "")
    put("threads", m["Threads"], "")
    if h1:
        put("collections of healthy members", max(h1.values()) - max(h0.values(), default=0), "")
        for q in (0.5, 0.99):
            put(f"collection of healthy members p{q * 100:.0f}, by the histogram", 1000 * quantile(h0, h1, q), "ms")
    if durations:
        for q in (0.5, 0.99):
            put(f"collection of healthy members p{q * 100:.0f}, by /api/v1/targets", pct(durations, q), "ms")
    t.notes.append(f"{section}: {took:.0f} s, the farm took {100 * (f1 - f0) / took:.1f} % of a core, others "
                   f"{100 * (b1 - b0) / took:.0f} %; {len(durations)} durations of healthy members in {args.readings} readings; health {e.health()}")
    log(t.notes[-1])
    if b1 - b0 > 0.2 * took and not args.realtime:
        t.notes.append(f"{section}: other processes were busy: the p99 says little; see --realtime")


def page(args, t, e):
    """One page of the whole fleet, plain and gzipped."""
    S = "one /metrics of the whole fleet"
    for label, headers in (("plain", PLAIN), ("gzip", PROM)):
        before = mem(e.pid)["VmRSS"]
        reset_peak(e.pid)
        c0 = cpu_s(e.pid)
        took, body, size = e.get("/metrics", headers)
        cpu, m = cpu_s(e.pid) - c0, mem(e.pid)
        t.put(S, f"{label}: time", NAME, took, "s")
        t.put(S, f"{label}: CPU", NAME, cpu, "s")
        t.put(S, f"{label}: size", NAME, size / 2**20, "MiB")
        t.put(S, f"{label}: peak resident above that before", NAME, m["VmHWM"] - before, "MiB")
        if label == "plain":
            t.put(S, "series", NAME, sum(1 for line in body.splitlines() if line and not line.startswith(b"#")), "")
            t.put(S, "members", NAME, len(set(INSTANCE.findall(body))), "")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True, help="the exporter")
    ap.add_argument("--farm", required=True, help="the farm")
    ap.add_argument("--flag", action="append", default=[], help="a flag for the exporter; repeat it")
    ap.add_argument("--targets", type=int, default=2000)
    ap.add_argument("--interval", type=int, default=15, help="scrape_interval in s")
    ap.add_argument("--seconds", type=int, default=60, help="how long each part is watched")
    ap.add_argument("--readings", type=int, default=3, help="how often the last durations are read, an interval apart")
    ap.add_argument("--realtime", action="store_true", help="run exporter and farm before all other work on this machine, "
                    "which then disturbs the times less; takes root")
    ap.add_argument("--trouble", default="hang,refuse", help="what half of the servers do, one after the other; may be empty")
    ap.add_argument("--json", metavar="FILE", help="write the numbers there as well")
    args = ap.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.tmp = tempfile.mkdtemp(prefix="farm-bench-")
    # It becomes the program: the process number stays.
    args.first = ["chrt", "--rr", "1"] if args.realtime else []
    t = Table([NAME])

    e = Exporter(args, [], [])
    time.sleep(3)
    args.empty = mem(e.pid)["VmRSS"]
    t.put("without targets", "resident", NAME, args.empty, "MiB")
    e.end()

    farm = Farm(args)
    healthy, other = farm.targets[:args.targets // 2], farm.targets[args.targets // 2:args.targets]
    t0 = time.monotonic()
    e = Exporter(args, healthy, other)
    all_ok = {("healthy", "ok"): len(healthy), ("other", "ok"): len(other)}
    e.wait_for(all_ok, 3 * args.interval + 30)
    t.notes.append(f"{args.targets} targets every {args.interval} s; all were ok {time.monotonic() - t0:.1f} s after the start")
    time.sleep(args.interval)
    watch(args, t, "all answer", e, farm, args.seconds)
    page(args, t, e)
    grown = {}
    for behaviour in filter(None, args.trouble.split(",")):
        # The first exporter goes on beside targets that all answer; a second one has the same healthy targets, beside
        # a thousand others that fail. Both are watched at the same time.
        farm.say(f"answer {args.targets}..{len(farm.targets)}")
        sick = Exporter(args, healthy, farm.targets[args.targets:], "beside-the-sick")
        sick.wait_for({("beside-the-sick", "ok"): len(healthy), ("other", "ok"): len(other)}, 3 * args.interval + 30)
        time.sleep(args.interval)
        both = {"healthy members": e, f"healthy members beside others that {behaviour}": sick}
        farm.say(f"{behaviour} {args.targets}..{len(farm.targets)}")
        # From the first failures on: the members go from ok to down while they are watched.
        side_by_side(args, t, f"half of them {behaviour}, at once", both)
        sick.wait_for({("beside-the-sick", "ok"): len(healthy), ("other", "down"): len(other)}, 10 * args.interval)
        alone, beside = side_by_side(args, t, f"half of them {behaviour}, all down", both).values()
        grown[behaviour] = 100 * (beside / alone - 1)
        t.put(f"half of them {behaviour}, all down", "p99 of healthy members, more than beside well ones", NAME, grown[behaviour], "%")
        sick.end()
    value = {(r["section"], r["metric"]): r["v"][NAME] for r in t.rows}
    goals = [("CPU, % of a core", value["all answer", "CPU"], 25),
             ("KiB for each target", value["all answer", "resident above that without targets, for each"], 48)]
    goals += [(f"p99 growth with half of them {b}, %", g, 20) for b, g in grown.items()]
    for what, found, most in goals:
        t.notes.append(f"goal: {what}: at most {most}, found {found:.1f}: {'met' if found <= most else 'MISSED'}")
    e.end()
    end(farm.p)
    print(t.show())
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"taken": time.strftime("%FT%TZ", time.gmtime()), "kernel": os.uname().release,
                       "cores": os.cpu_count(), "targets": args.targets, "interval": args.interval, "rows": t.rows,
                       "notes": t.notes}, f, indent=1)
    end_all()
    shutil.rmtree(args.tmp, ignore_errors=True)


if __name__ == "__main__":
    main()
