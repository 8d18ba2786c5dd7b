#!/usr/bin/env python3
"""What a reload of many services costs the whole process, and for how long it holds up all else.

The exporter follows thousands of services from a file. One service after the other is changed in that file. The log
says how long each reload took from its bytes to the published configuration; /api/v1/events says when others can see it.
Meanwhile /-/healthy is asked every 5 ms by a process of its own: the slowest answer is the longest time for which the
one thread of the exporter did something else.  The same without reloads, in the same run, is what that is compared with.

With --farm the services have scripted servers (tests/support/src/bin/farm.rs); without, ports where nobody listens.
Loopback only; it ends only the processes it started.
"""
import argparse, http.client, json, multiprocessing, os, re, resource, shutil, statistics, subprocess, tempfile, time

from exporter_bench import Table, children, cpu_s, end, end_all, free_port, mem, spawn

NAME = "ours"
EVERY = 0.005


def probe(port, pipe, realtime):
    """Asks until it is told to stop: how long each answer took, in ms. One that should have been asked meanwhile waited, too."""
    if realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    took, connection = [], http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    due = time.monotonic()
    while not pipe.poll():
        began = time.monotonic()
        connection.request("GET", "/-/healthy")
        connection.getresponse().read()
        now = time.monotonic()
        took.append(1000 * (now - began))
        due = max(due + EVERY, now)
        time.sleep(max(0.0, due - time.monotonic()))
    pipe.send(took)


class Probe:
    def __init__(self, port, realtime):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=probe, args=(port, theirs, realtime), daemon=True)
        self.process.start()

    def stop(self):
        self.pipe.send("stop")
        took = self.pipe.recv()
        self.process.join()
        return took


class Exporter:
    def __init__(self, args, targets):
        self.args, self.targets = args, targets
        self.port, self.folder = free_port(), tempfile.mkdtemp(dir=args.tmp)
        self.config, self.log = os.path.join(self.folder, "redvigil.yaml"), os.path.join(self.folder, "log")
        self.write({})
        self.p = spawn(args.first + [args.program, f"--web.listen-address=127.0.0.1:{self.port}", f"--config.file={self.config}",
                        f"--storage.path={self.folder}/state"], self.log)
        until = time.monotonic() + 10
        while True:
            if self.p.poll() is not None or time.monotonic() > until:
                with open(self.log) as f:
                    raise SystemExit(f"the exporter did not start: {f.read()[-2000:]}")
            try:
                self.get("/-/healthy")
                break
            except OSError:
                time.sleep(0.02)

    def write(self, changed, env="prod", password="change-me", more=0, interval=None):
        """The document, in which these services have another limit. Replaced whole, as editors and Kubernetes do."""
        args, lines = self.args, []
        interval = interval or args.interval
        lines.append(f"global: {{ scrape_interval: {interval}s, scrape_timeout: {min(interval, 5)}s, labels: {{ env: {env} }} }}\n"
                     "credentials:\n  - name: all\n    match:\n      services: [")
        lines.append(", ".join(f"service-{n}" for n in range(args.services)))
        lines.append(f"]\n    username: monitor\n    password: {password}\nservices:\n")
        for n in range(args.services + more):
            at = self.targets[n % len(self.targets)]
            source = f"instances: [\"{at}\"]" if args.kind == "instances" else \
                f"sentinel: {{ master: m{n}, addresses: [\"{at}\", \"127.0.0.2:9\", \"127.0.0.3:9\"] }}"
            lines.append(f"  - name: service-{n}\n    {source}\n    labels: {{ team: team-{n % 50} }}\n"
                         f"    collect: {{ client_list: true }}\n    replication_lag_bytes: {changed.get(n, 10000)}\n")
        if args.output:
            lines.append(f"outputs:\n  - name: sink\n    remote_write: {{ url: \"http://127.0.0.1:9/api/v1/write\" }}\n"
                         f"    queue: {{ min_free: 1MiB }}\n")
        with open(self.config + ".new", "w") as f:
            f.write("".join(lines))
        os.rename(self.config + ".new", self.config)

    def get(self, path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"{method} {path}: HTTP {response.status}: {body[:500]}")
        return body

    def published(self):
        """What the log says of each that was published."""
        with open(self.log) as f:
            return [int(x) for x in re.findall(r'msg="configuration published".*?took_ms=(\d+)', f.read())]

    def wait(self, what, is_it, seconds=30):
        until = time.monotonic() + seconds
        while not is_it():
            if time.monotonic() > until:
                raise SystemExit(f"waited {seconds} s in vain: {what}")
            time.sleep(0.002)


def spread(values):
    values = sorted(values)
    return statistics.median(values), values[min(len(values) - 1, int(len(values) * 0.99))], values[-1]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True)
    ap.add_argument("--farm", help="the program of the scripted servers; without it nobody answers")
    ap.add_argument("--services", type=int, default=5000)
    ap.add_argument("--kind", choices=["instances", "sentinel"], default="instances")
    ap.add_argument("--output", action="store_true", help="with an output, which nobody takes")
    ap.add_argument("--interval", type=int, default=15, help="scrape_interval in s")
    ap.add_argument("--reloads", type=int, default=20)
    ap.add_argument("--pause", type=float, default=1.0, help="seconds from one reload to the next")
    ap.add_argument("--realtime", action="store_true", help="run the exporter and who asks it before all other work on this machine, "
                    "which then disturbs the times less; takes root")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.first = ["chrt", "--rr", "1"] if args.realtime else []
    args.tmp = tempfile.mkdtemp(prefix="reload-bench-")
    t = Table([NAME])
    put = lambda section, metric, value, unit: t.put(section, metric, NAME, value, unit)
    targets = [f"127.{1 + n // 62500}.{n // 250 % 250}.{1 + n % 250}:9" for n in range(args.services)]
    if args.farm:
        farm = subprocess.Popen([args.farm, str(args.services)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(farm)
        targets = [x for group in json.loads(farm.stdout.readline()) for x in group["targets"]]
    e = Exporter(args, targets)
    # Until those where nobody answers are down, which is told of each.
    time.sleep(3 * args.interval + 5)

    def phase(section, go):
        """Does that while /-/healthy is asked."""
        asked, c0, t0 = Probe(e.port, args.realtime), cpu_s(e.p.pid), time.monotonic()
        go()
        took, cpu = asked.stop(), (cpu_s(e.p.pid) - c0) / (time.monotonic() - t0)
        p50, p99, longest = spread(took)
        put(section, "/-/healthy: p50", p50, "ms")
        put(section, "/-/healthy: p99", p99, "ms")
        put(section, "/-/healthy: slowest", longest, "ms")
        put(section, "longer than 20 ms, of " + str(len(took)), sum(x > 20 for x in took), "")
        put(section, "CPU", 100 * cpu, "% of a core")

    changed, seen, answered, large = {}, [], [], []

    def edit(number):
        """One service is another one than before."""
        changed[number % args.services] = 20000 + number

    def by_file():
        for number in range(args.reloads):
            before = len(e.published())
            edit(number)
            e.write(changed)
            began = time.monotonic()
            e.wait("the change in the log", lambda: len(e.published()) > before)
            seen.append(1000 * (time.monotonic() - began))
            time.sleep(args.pause)

    def by_request():
        for number in range(args.reloads):
            edit(100 + number)
            e.write(changed)
            began = time.monotonic()
            e.get("/-/reload", "POST")
            answered.append(1000 * (time.monotonic() - began))
            time.sleep(args.pause)

    def at_large(other):
        """What is about more than one service, there and back again."""
        for other in (other, {}) * 2:
            before = len(e.published())
            e.write(changed, **other)
            e.wait("the change in the log", lambda: len(e.published()) > before)
            large.append(e.published()[-1])
            time.sleep(args.pause)

    phase("nothing is changed", lambda: time.sleep(args.reloads * args.pause))
    phase("the file changes, one service each time", by_file)
    took = e.published()
    phase("the same and POST /-/reload", by_request)
    shown = []
    for number in range(5):
        edit(200 + number)
        value, name = 20000 + 200 + number, f"services.service-{(200 + number) % args.services}.replication_lag_bytes"
        e.write(changed)
        began = time.monotonic()
        settings = lambda: json.loads(e.get("/api/v1/config"))["settings"]
        e.wait("the change in /api/v1/config", lambda: any(s["key"] == name and s["value"] == value for s in settings()))
        shown.append(1000 * (time.monotonic() - began))
    put("/api/v1/config", "from the write until it shows the change: median", statistics.median(shown), "ms")
    asked = []
    for _ in range(5):
        began = time.monotonic()
        e.get("/api/v1/config")
        asked.append(1000 * (time.monotonic() - began))
    put("/api/v1/config", "an answer: median", statistics.median(asked), "ms")
    # The password comes last: who has to connect anew has work to do for a while.
    for S, other in (("a label of all", {"env": "test"}), ("one service more, one less", {"more": 1}),
                     ("the interval", {"interval": args.interval + 1}), ("the password of all", {"password": "another"})):
        first = len(large)
        phase(S, lambda: at_large(other))
        put(S, "from bytes to published: longest", max(large[first:]), "ms")
    S = "the file changes, one service each time"
    for name, values in (("from bytes to published", took), ("from the write to the log", seen)):
        p50, _, longest = spread(values)
        put(S, f"{name}: median", p50, "ms")
        put(S, f"{name}: longest", longest, "ms")
    S = "the same and POST /-/reload"
    p50, _, longest = spread(answered)
    put(S, "until it is answered: median", p50, "ms")
    put(S, "until it is answered: longest", longest, "ms")

    put("the process", "resident", mem(e.p.pid)["VmRSS"], "MiB")
    end(e.p)
    most = max(took)
    t.notes.append(f"goal: from bytes to published in 200 ms: {'met' if most <= 200 else 'MISSED'} with {most} ms at most")
    print(t.show())
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"taken": time.strftime("%FT%TZ", time.gmtime()), "cores": os.cpu_count(), "services": args.services,
                       "kind": args.kind, "interval": args.interval, "rows": t.rows, "notes": t.notes}, f, indent=1)
    end_all()
    shutil.rmtree(args.tmp, ignore_errors=True)


if __name__ == "__main__":
    main()
