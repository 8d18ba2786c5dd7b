#!/usr/bin/env python3
"""The same outage for each sender: what is lost.

Numbered targets hand out 1, 2, 3 ... each time they are asked, and remember when.  Each sender (ours, vmagent,
prometheus --agent) watches targets of its own and pushes to a store of its own, a VictoriaMetrics.  The store goes away
for half a minute; in the middle of that the sender is killed and started again at once; then the store comes back.  In the
end the store is asked which numbers it has.  All senders run at the same time.  Loopback only; it ends only the processes
it started.  See README.md.
"""
import argparse, json, os, re, shutil, socket, subprocess, tempfile, threading, time, urllib.parse, urllib.request

from exporter_bench import end, end_all, free_port, log, mem, spawn, wait_port

INFO = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "../tests/support/fixtures/redis-7.0.15-standalone-info.txt")
SERIES = "redis_commands_processed_total"


class Target:
    """A server that hands out numbers: to a Redis client in INFO, to an HTTP client as a page of metrics."""

    def __init__(self, info):
        self.handed = []  # when, in s since 1970; the number is the place, from 1 on
        self.info = info
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            s, _ = self.listener.accept()
            threading.Thread(target=self.converse, args=(s,), daemon=True).start()

    def next(self):
        self.handed.append(time.time())
        return len(self.handed)

    def converse(self, s):
        try:
            f = s.makefile("rb")
            while line := f.readline():
                if line.startswith(b"GET "):
                    while f.readline().strip():
                        pass
                    body = b"# TYPE %s counter\n%s %d\n" % (SERIES.encode(), SERIES.encode(), self.next())
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                              b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                    continue
                words = []
                for _ in range(int(line[1:])):
                    length = int(f.readline()[1:])
                    words.append(f.read(length + 2)[:-2].upper())
                s.sendall(self.answer(words))
        except (OSError, ValueError):
            pass
        finally:
            s.close()

    def answer(self, words):
        def bulk(b):
            return b"$%d\r\n%s\r\n" % (len(b), b)
        if words[0] == b"INFO":
            info = re.sub(rb"total_commands_processed:\d+", b"total_commands_processed:%d" % self.next(), self.info)
            return bulk(re.sub(rb"run_id:\w+", b"run_id:%040x" % self.port, info))
        if words[0] == b"HELLO":
            fields = (b"server", b"redis", b"version", b"7.0.15", b"mode", b"standalone")
            return b"*8\r\n" + b"".join(map(bulk, fields)) + bulk(b"proto") + b":2\r\n"
        if words[:2] == [b"SLOWLOG", b"LEN"]:
            return b":0\r\n"
        if words[0] in (b"CONFIG", b"LATENCY", b"SLOWLOG"):
            return b"*0\r\n"
        if words[0] in (b"CLIENT", b"PING", b"SELECT"):
            return b"+OK\r\n"
        return b"-ERR unknown command '%s'\r\n" % words[0]


class Store:
    """A VictoriaMetrics that goes and comes back with what it had."""

    def __init__(self, args, folder):
        self.args, self.folder, self.port = args, folder, free_port()
        self.p = None
        self.up()

    def up(self):
        self.p = spawn([self.args.victoria_metrics, f"-storageDataPath={self.folder}/store", "-search.latencyOffset=0s",
                        f"-httpListenAddr=127.0.0.1:{self.port}", "-retentionPeriod=1y",
                        "-memory.allowedBytes=128MiB"], f"{self.folder}/store.log")
        wait_port(self.port)

    def down(self):
        end(self.p)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as r:
            return r.read().decode()

    def has(self):
        """{instance: [number, ...]} in the order of the timestamps."""
        self.get("/internal/force_flush")
        found = {}
        for line in self.get("/api/v1/export?match[]=" + urllib.parse.quote(SERIES)).splitlines():
            d = json.loads(line)
            pairs = sorted(zip(d["timestamps"], d["values"]), key=lambda pair: pair[0])
            # A stale marker is no number.
            found.setdefault(d["metric"]["instance"], []).extend(int(v) for _, v in pairs if v is not None)
        return found


class Sender:
    """Something that collects the targets each second and pushes to a store."""

    def __init__(self, args, name, kill, info):
        self.args, self.name, self.kill = args, name, kill
        self.folder = tempfile.mkdtemp(dir=args.tmp)
        self.targets = [Target(info) for _ in range(args.targets)]
        self.store = Store(args, self.folder)
        self.port = free_port()
        self.config = f"{self.folder}/config.yml"
        hosts = json.dumps([f"127.0.0.1:{t.port}" for t in self.targets])
        url = f"http://127.0.0.1:{self.store.port}/api/v1/write"
        scrape = (f"global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n"
                  f"- job_name: numbers\n  static_configs: [{{ targets: {hosts} }}]\n")
        if name == "ours":
            text = (f"global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n"
                    f"services:\n- name: numbers\n  instances: {hosts}\n"
                    f"outputs:\n- name: store\n  remote_write: {{ url: \"{url}\" }}\n  queue: {{ min_free: 0 }}\n")
            self.argv = [args.program, f"--config.file={self.config}", f"--storage.path={self.folder}/state",
                         f"--web.listen-address=127.0.0.1:{self.port}"]
        elif name == "vmagent":
            text = scrape
            self.argv = [args.vmagent, f"-promscrape.config={self.config}", f"-remoteWrite.url={url}",
                         f"-remoteWrite.tmpDataPath={self.folder}/state", f"-httpListenAddr=127.0.0.1:{self.port}"]
        else:
            text = scrape + f"remote_write: [{{ url: \"{url}\" }}]\n"
            self.argv = [args.prometheus, f"--config.file={self.config}",
                         f"--web.listen-address=127.0.0.1:{self.port}"]
            # 3 has a flag of its own; 2 says that it is a feature.
            self.argv += ["--agent"] if args.prometheus_major >= 3 else ["--enable-feature=agent"]
            self.argv += [f"--storage.agent.path={self.folder}/state"]
        with open(self.config, "w") as f:
            f.write(text)

    def start(self):
        self.p = spawn(self.argv, f"{self.folder}/log")
        wait_port(self.port)

    def newest(self):
        return [len(t.handed) for t in self.targets]

    def run(self):
        a, marks = self.args, {}
        self.start()
        # A Prometheus sends its first samples late: all begin once the store has something of each target.
        until = time.time() + 90
        while not all(self.store.has().get(f"127.0.0.1:{t.port}") for t in self.targets):
            if time.time() > until:
                raise RuntimeError("the store got nothing in 90 s")
            time.sleep(0.2)
        time.sleep(a.before)
        self.store.down()
        marks["away"] = time.time()
        time.sleep(a.outage / 2)
        marks["rss"] = mem(self.p.pid)["VmRSS"]
        marks["killed"] = time.time()
        if self.kill == "SIGTERM":
            self.p.terminate()
            try:
                self.p.wait(a.grace)
            except subprocess.TimeoutExpired:
                pass
        self.p.kill()
        self.p.wait()
        marks["ended"] = time.time()
        self.start()
        marks["again"] = time.time()
        time.sleep(max(0, a.outage / 2 - (time.time() - marks["killed"])))
        self.store.up()
        marks["back"] = time.time()
        # Caught up once the store has what is being collected now: a sample of after its return, and newer than all
        # that was handed out by then.
        wanted, marks["caught_up"] = self.newest(), None
        while time.time() < marks["back"] + a.after:
            has = self.store.has()
            if all(max(has.get(f"127.0.0.1:{t.port}", [0])) >= n for t, n in zip(self.targets, wanted)):
                marks["caught_up"] = time.time()
                break
            time.sleep(0.2)
        time.sleep(a.settle)
        marks["end"] = time.time()
        end(self.p)
        self.result = self.judge(marks)

    def judge(self, marks):
        has = self.store.has()
        r = {"sender": self.name, "signal": self.kill, "handed": 0, "arrived": 0, "lost": 0, "lost_before_kill": 0,
             "lost_more_than_1s_before_kill": 0, "twice": 0, "longest_gap_s": 0.0}
        for t in self.targets:
            mine = has.get(f"127.0.0.1:{t.port}", [])
            there = set(mine)
            # What was handed out in the last second may be on its way at the end, for any sender.
            owed = [(n, at) for n, at in enumerate(t.handed, 1) if at < marks["end"] - 2]
            lost = [(n, at) for n, at in owed if n not in there]
            r["handed"] += len(owed)
            r["lost"] += len(lost)
            r["arrived"] += len(owed) - len(lost)
            r["twice"] += len(mine) - len(there)
            r["lost_before_kill"] += sum(marks["away"] - 2 <= at <= marks["killed"] for _, at in lost)
            r["lost_more_than_1s_before_kill"] += sum(at <= marks["killed"] - 1 for _, at in lost)
            times = [at for n, at in owed if n in there]
            r["longest_gap_s"] = max([r["longest_gap_s"], *(b - a for a, b in zip(times, times[1:]))])
        r["end_s"] = marks["ended"] - marks["killed"]
        r["restart_s"] = marks["again"] - marks["ended"]
        r["caught_up_s"] = marks["caught_up"] and marks["caught_up"] - marks["back"]
        r["resident_mib"] = marks["rss"]
        return r


ROWS = [("collected from the targets", "samples", "handed"), ("in the store at the end", "samples", "arrived"),
        ("**lost**", "samples", "lost"), ("of these collected before the kill", "samples", "lost_before_kill"),
        ("of these collected more than 1 s before it", "samples", "lost_more_than_1s_before_kill"),
        ("in the store twice", "samples", "twice"), ("longest gap in a series", "s", "longest_gap_s"),
        ("caught up after the return of the store", "s", "caught_up_s"),
        ("took to end", "s", "end_s"), ("resident before the kill", "MiB", "resident_mib")]


def show(results, names, kill):
    cell = lambda v: "never" if v is None else f"{v:.1f}" if isinstance(v, float) else str(v)
    out = ["", f"## outage, sender ended by {kill}", "", "| | unit | " + " | ".join(names) + " |", "|" + "---|" * (2 + len(names))]
    for title, unit, key in ROWS:
        out.append(f"| {title} | {unit} | " + " | ".join(cell(results[n, kill][key]) for n in names) + " |")
    return "\n".join(out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True, help="our exporter")
    ap.add_argument("--parts", required=True, help="parts.tsv, as scripts/parts.sh writes it")
    ap.add_argument("--targets", type=int, default=20)
    ap.add_argument("--before", type=float, default=10, help="how long all is well at first, in s")
    ap.add_argument("--outage", type=float, default=30, help="how long the store is away, in s")
    ap.add_argument("--after", type=float, default=90, help="how long a sender may take to catch up, in s")
    ap.add_argument("--settle", type=float, default=10, help="how long it goes on after that, in s")
    ap.add_argument("--signals", default="SIGKILL,SIGTERM", help="how senders are ended")
    ap.add_argument("--grace", type=float, default=10, help="how long after SIGTERM a sender is killed, in s")
    ap.add_argument("--json", metavar="FILE", help="write the numbers there as well")
    args = ap.parse_args()
    parts = {}
    with open(args.parts) as f:
        for line in f:
            name, version, path = line.rstrip("\n").split("\t")
            parts[name] = version, path
    prometheus = "prometheus-3" if "prometheus-3" in parts else "prometheus-2.53"
    versions = {"vmagent": parts["vmagent"][0], prometheus + " --agent": parts[prometheus][0],
                "victoria-metrics, the store": parts["victoria-metrics"][0]}
    args.vmagent, args.victoria_metrics = parts["vmagent"][1], parts["victoria-metrics"][1]
    args.prometheus, args.prometheus_major = parts[prometheus][1], int(parts[prometheus][0].split(".")[0])
    args.tmp = tempfile.mkdtemp(prefix="outage-bench-")
    with open(INFO, "rb") as f:
        info = f.read()
    names, kills = ["ours", "vmagent", "prometheus --agent"], args.signals.split(",")
    senders = [Sender(args, name, kill, info) for kill in kills for name in names]
    failed = []

    def run(sender):
        try:
            sender.run()
        except BaseException as e:  # a thread must not go silently
            failed.append(f"{sender.name}, {sender.kill}: {e!r}")

    threads = [threading.Thread(target=run, args=(s,)) for s in senders]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        for s in senders:
            if any(f.startswith(f"{s.name}, {s.kill}") for f in failed):
                with open(f"{s.folder}/log", errors="replace") as f:
                    log(f"{s.name}: {f.read()[-2000:]}")
        raise SystemExit("\n".join(failed))
    results = {(s.name, s.kill): s.result for s in senders}
    print("\n".join(show(results, names, kill) for kill in kills))
    print(f"\nnote: {args.targets} targets each second, {args.outage:.0f} s without the store, the sender ended in the middle; "
          + ", ".join(f"{n} {v}" for n, v in versions.items()))
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"taken": time.strftime("%FT%TZ", time.gmtime()), "kernel": os.uname().release,
                       "cores": os.cpu_count(), "versions": versions, "targets": args.targets, "before": args.before,
                       "outage": args.outage, "results": [s.result for s in senders]}, f, indent=1)
    end_all()
    shutil.rmtree(args.tmp, ignore_errors=True)
    if any(r["lost"] for (name, _), r in results.items() if name == "ours"):
        raise SystemExit("ours lost samples")


if __name__ == "__main__":
    main()
