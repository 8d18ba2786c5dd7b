#!/usr/bin/env python3
"""Side-by-side benchmark of Prometheus exporters for Redis/Valkey.

Every exporter given with --exporter NAME=COMMAND is measured in the same run,
in alternating rounds, against the same servers; the first one is the base of
the ratios.  Python's standard library, a redis-server (or valkey-server) and,
for throughput, wrk.  Loopback only; loops are bounded; it ends only the
processes it started.  See README.md.
"""
import argparse, asyncio, atexit, json, os, random, re, resource, shlex, shutil, signal
import socket, statistics, subprocess, sys, tempfile, threading, time

TICK = os.sysconf("SC_CLK_TCK")
# What Prometheus sends with a scrape; responses are gzipped for it.
PROM = {"User-Agent": "Prometheus/3.5.0", "Accept-Encoding": "gzip",
        "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        "X-Prometheus-Scrape-Timeout-Seconds": "10"}
PLAIN = {"User-Agent": "bench", "Accept": "text/plain;version=0.0.4"}
children, stopped = [], set()


def log(*a):
    print(*a, file=sys.stderr, flush=True)


PORTS = iter(range(23000 + os.getpid() % 50 * 100, 32768))


def free_port():
    """A port below the range that the kernel gives to outgoing connections, so that none of those takes it."""
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise SystemExit("no free port below 32768")


def wait_port(port, seconds=10):
    """Waits until somebody listens there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"nobody listens on port {port} after {seconds} s")


def spawn(argv, logfile):
    f = open(logfile, "ab")
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True)
    children.append(p)
    return p


def end(p):
    if p.poll() is None:
        if p.pid in stopped:
            os.kill(p.pid, signal.SIGCONT)
            stopped.discard(p.pid)
        p.terminate()
        try:
            p.wait(5)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    if p in children:
        children.remove(p)


@atexit.register
def end_all():
    for p in list(children):
        if p.poll() is None and p.pid in stopped:
            os.kill(p.pid, signal.SIGCONT)
        if p.poll() is None:
            p.terminate()
    for p in list(children):
        end(p)


for _s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(_s, lambda *_: sys.exit(130))


# ---------------------------------------------------------------- /proc
def cpu_s(pid):
    """CPU seconds of a process and all its threads, also ended ones, from its CPU clock: exact to the nanosecond
    where /proc/PID/stat counts in steps of 10 ms."""
    return time.clock_gettime(~pid << 3 | 2)


def mem(pid):
    """Resident, peak resident and anonymous memory in MiB; threads; open files."""
    d = {}
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            k, _, v = line.partition(":")
            if k in ("VmRSS", "VmHWM", "RssAnon"):
                d[k] = int(v.split()[0]) / 1024
            elif k == "Threads":
                d[k] = int(v)
    d["fds"] = len(os.listdir(f"/proc/{pid}/fd"))
    return d


def reset_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as f:
        f.write("5")


def others_busy():
    """CPU seconds of everything on this machine but this benchmark and what it started."""
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    own = sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (sum(v) - v[3] - v[4]) / TICK - own - sum(cpu_s(p.pid) for p in children if p.poll() is None)


# ---------------------------------------------------------------- Redis
class Resp:
    """A minimal RESP2 client."""

    def __init__(self, port, timeout=60):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.s.makefile("rb", 1 << 18)

    @staticmethod
    def enc(args):
        out = [b"*%d\r\n" % len(args)]
        for a in args:
            a = a if isinstance(a, bytes) else str(a).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(a), a))
        return b"".join(out)

    def read(self):
        line = self.f.readline()
        if not line:
            raise EOFError("connection closed")
        t, v = line[:1], line[1:-2]
        if t == b"$":
            n = int(v)
            return None if n < 0 else self.f.read(n + 2)[:-2]
        if t in b"*~>":
            return [self.read() for _ in range(max(int(v), 0))]
        if t == b"%":
            return [self.read() for _ in range(2 * int(v))]
        return int(v) if t == b":" else Exception(v.decode()) if t == b"-" else v

    def do(self, *args):
        self.s.sendall(self.enc(args))
        return self.read()

    def pipe(self, cmds, chunk=5000):
        res = []
        for i in range(0, len(cmds), chunk):
            part = cmds[i:i + chunk]
            self.s.sendall(b"".join(self.enc(c) for c in part))
            res += [self.read() for _ in part]
        return res

    def info(self, section="all"):
        d = {}
        for line in self.do("INFO", section).decode().splitlines():
            k, sep, v = line.partition(":")
            if sep:
                d[k] = v
        return d


class Redis:
    def __init__(self, args, extra=(), port=None):
        self.port = port or free_port()
        self.dir = tempfile.mkdtemp(dir=args.tmp)
        self.p = spawn([args.redis_server, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
                        "--appendonly", "no", "--dir", self.dir, *args.debug_flag, *extra],
                       os.path.join(args.tmp, "redis.log"))
        self.addr = f"127.0.0.1:{self.port}"
        for _ in range(200):
            try:
                self.c = Resp(self.port)
                if self.c.do("PING") == b"PONG":
                    return
            except OSError:
                if self.p.poll() is not None:
                    raise SystemExit("redis-server did not start; see " + os.path.join(args.tmp, "redis.log"))
            time.sleep(0.05)
        raise SystemExit("redis-server did not answer")

    @staticmethod
    def debug_flag(server):
        """What allows DEBUG; servers before 7 allow it anyway and do not know the flag."""
        said = subprocess.run([server, "--version"], capture_output=True, text=True).stdout
        major = re.search(r"v=(\d+)", said)
        return ["--enable-debug-command", "yes"] if not major or int(major[1]) >= 7 else []

    def stop(self):
        os.kill(self.p.pid, signal.SIGSTOP)
        stopped.add(self.p.pid)

    def cont(self):
        os.kill(self.p.pid, signal.SIGCONT)
        stopped.discard(self.p.pid)

    def cpu(self):
        i = self.c.info("cpu")
        return float(i["used_cpu_user"]) + float(i["used_cpu_sys"])

    def counters(self):
        i = self.c.info("all")
        calls = {}
        for k, v in i.items():
            if k.startswith("cmdstat_"):
                calls[k[8:]] = int(re.search(r"calls=(\d+)", v)[1]) + int(
                    (re.search(r"rejected_calls=(\d+)", v) or [0, 0])[1])
        return {"calls": calls, "conns": int(i["total_connections_received"]),
                "out": int(i["total_net_output_bytes"]),
                "cpu": float(i["used_cpu_user"]) + float(i["used_cpu_sys"])}


SKIP = set("""shutdown debug flushall flushdb monitor subscribe psubscribe ssubscribe unsubscribe punsubscribe
sunsubscribe sync psync replconf replicaof slaveof failover wait waitaof quit reset swapdb bgsave save bgrewriteaof
blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop hello auth pfselftest pfdebug multi exec discard watch
restore-asking client|pause client|kill client|reply client|no-evict client|tracking client|caching script|kill
script|flush function|kill function|flush config|resetstat config|rewrite config|set slowlog|reset latency|reset
module|load module|loadex module|unload acl|load acl|save acl|setuser acl|deluser keys cluster|reset migrate
commandlog|reset""".split())


def fill(r, keys, clients, commands, seed=1):
    """The state a busy production server shows: many databases, commands, clients, slow-log and latency entries."""
    rnd, c = random.Random(seed), r.c
    for db in range(16):
        n = keys - 15 * (keys // 50) if db == 0 else keys // 50
        cmds = [("SELECT", db)]
        for i in range(n):
            cmds.append(("SET", f"user:{i}:profile", "x" * rnd.randint(8, 64)) + (("EX", 86400) if i % 5 == 0 else ()))
        c.pipe(cmds)
    c.do("SELECT", 0)
    # Run harmless commands of this server; an error reply counts as a call as well.
    mixed = []
    for row in c.do("COMMAND"):
        for name, arity in [(row[0].decode().lower(), abs(row[1]))] + [
                (s[0].decode().lower(), abs(s[1])) for s in (row[9] if len(row) > 9 else [])]:
            if name in SKIP or name.split("|")[0] in ("cluster", "sentinel"):
                continue
            parts = name.split("|")
            mixed.append(parts + [f"bench:{name}"] * min(1, max(0, arity - len(parts)))
                         + ["1"] * max(0, arity - len(parts) - 1))
    rnd.shuffle(mixed)
    mixed = mixed[:max(0, commands - sum(k.startswith("cmdstat_") for k in c.info("all")) - 8)]
    for _ in range(40):
        c.pipe(mixed)
        c.do("SELECT", 0)
    c.pipe([("GET", f"user:{rnd.randrange(keys)}:profile") for _ in range(20000)])
    c.do("CONFIG", "SET", "latency-monitor-threshold", "1")
    c.do("DEBUG", "SLEEP", "0.02")
    c.do("CONFIG", "SET", "slowlog-log-slower-than", "0")
    c.pipe([("HSET", f"h{i}", "f", "v") for i in range(100)])
    c.do("CONFIG", "SET", "slowlog-log-slower-than", "10000")
    r.clients = [Resp(r.port) for _ in range(clients)]
    for i, k in enumerate(r.clients):
        k.do("CLIENT", "SETNAME", f"app-{i}")


# ---------------------------------------------------------------- HTTP
class Http:
    """Keep-alive HTTP/1.1 GET on a raw socket: little time of its own."""

    def __init__(self, port, timeout=60):
        self.port, self.timeout, self.s = port, timeout, None

    def get(self, path, headers):
        if self.s is None:
            self.s = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
            self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        req = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n" + \
              "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        t = time.perf_counter()
        try:
            self.s.sendall(req.encode())
            buf = b""
            while b"\r\n\r\n" not in buf:
                d = self.s.recv(1 << 20)
                if not d:
                    raise EOFError("closed")
                buf += d
            head, body = buf.split(b"\r\n\r\n", 1)
            low, parts = head.lower(), [body]
            m = re.search(rb"\ncontent-length: *(\d+)", low)
            if m:
                need = int(m[1]) - len(body)
                while need > 0:
                    d = self.s.recv(1 << 20)
                    if not d:
                        raise EOFError("closed")
                    parts.append(d)
                    need -= len(d)
            elif b"chunked" in low:
                tail = body[-7:]
                while not (tail.endswith(b"\r\n0\r\n\r\n") or tail == b"0\r\n\r\n"):
                    d = self.s.recv(1 << 20)
                    if not d:
                        raise EOFError("closed")
                    parts.append(d)
                    tail = (tail + d)[-7:]
            else:
                while True:
                    d = self.s.recv(1 << 20)
                    if not d:
                        break
                    parts.append(d)
            took = time.perf_counter() - t
            if b"\nconnection: close" in low or not (m or b"chunked" in low):
                self.close()
            return took, int(head.split(b" ", 2)[1]), head, parts
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.s:
            self.s.close()
        self.s = None


def body_of(head, parts):
    b = b"".join(parts)
    if b"chunked" in head.lower():
        out, i = [], 0
        while True:
            j = b.index(b"\r\n", i)
            n = int(b[i:j].split(b";")[0], 16)
            if n == 0:
                return b"".join(out)
            out.append(b[j + 2:j + 2 + n])
            i = j + 4 + n
    return b


def pct(xs, q):
    xs = sorted(xs)
    return xs[min(len(xs) - 1, int(q * len(xs)))]


# ---------------------------------------------------------------- exporter
class Exporter:
    def __init__(self, args, name, cmd, redis, extra="", quiet=False):
        self.a, self.name, self.port = args, name, free_port()
        line = cmd.format(listen=f"127.0.0.1:{self.port}", port=self.port, redis=redis) + " " + extra
        t = time.perf_counter()
        self.p = spawn(shlex.split(line), os.path.join(args.tmp, f"{name}.log"))
        self.pid = self.p.pid
        for _ in range(500):
            if self.p.poll() is not None:
                raise RuntimeError(f"{name} ended at its start: {line}")
            try:
                Http(self.port, 20).get("/health", PLAIN)
                break
            except (OSError, EOFError):
                time.sleep(0.01)
        self.start_ms = (time.perf_counter() - t) * 1000
        self.h = Http(self.port, args.timeout)

    def metrics(self, headers=PROM):
        return self.h.get(self.a.metrics_path, headers)

    def scrape_path(self, target, extra=""):
        return self.a.scrape_path.format(target=target) + extra

    def scrape(self, target, headers=PROM, extra=""):
        return self.h.get(self.scrape_path(target, extra), headers)

    def end(self):
        self.h.close()
        end(self.p)


def wrk(port, path, conns, secs, headers, lua=None):
    cmd = ["wrk", "-t1", f"-c{conns}", f"-d{secs}s", "--timeout", "30s", "--latency"]
    for k, v in headers.items():
        cmd += ["-H", f"{k}: {v}"]
    out = subprocess.run(cmd + (["-s", lua] if lua else []) + [f"http://127.0.0.1:{port}{path}"],
                         capture_output=True, text=True, timeout=secs + 60).stdout
    unit = {"us": 1e-3, "ms": 1, "s": 1000, "m": 60000}
    lat = {k: float(v) * unit[u] for k, v, u in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)\b", out, re.M)}
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)\b", out)
    if not done:
        raise SystemExit(f"wrk said nothing that can be read: {out!r}")
    n, s = done[1], float(done[2]) * unit[done[3]] / 1000
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    err = re.search(r"Socket errors: (.*)", out)
    return {"n": int(n), "s": s, "p50": lat.get("50"), "p99": lat.get("99"),
            "bad": int(bad[1]) if bad else 0, "err": err[1] if err else ""}


# ---------------------------------------------------------------- report
class Table:
    def __init__(self, names):
        self.names, self.rows, self.notes, self.left_out = names, [], [], False

    def put(self, section, metric, name, value, unit=""):
        for r in self.rows:
            if r["section"] == section and r["metric"] == metric:
                r["v"][name] = value
                return
        self.rows.append({"section": section, "metric": metric, "unit": unit, "v": {name: value}})

    @staticmethod
    def fmt(v):
        if isinstance(v, (int, float)):
            return f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.4g}"
        return "-" if v is None else str(v)

    def show(self):
        out, base = [], self.names[0]
        for sec in dict.fromkeys(r["section"] for r in self.rows):
            out += ["", f"## {sec}", "", "| metric | unit | " + " | ".join(self.names) + " | "
                    + " | ".join(f"{n}/{base}" for n in self.names[1:]) + (" |" if self.names[1:] else ""),
                    "|" + "---|" * (1 + len(self.names) * 2)]
            for r in (r for r in self.rows if r["section"] == sec):
                b, cells = r["v"].get(base), [self.fmt(r["v"].get(n)) for n in self.names]
                for n in self.names[1:]:
                    v = r["v"].get(n)
                    ok = isinstance(v, (int, float)) and isinstance(b, (int, float)) and b
                    cells.append(f"{v / b:.3f}" if ok else "-")
                out.append(f"| {r['metric']} | {r['unit']} | " + " | ".join(cells) + " |")
        return "\n".join(out + [""] + [f"note: {n}" for n in self.notes])


def med(xs):
    return statistics.median(xs) if xs else None


# ---------------------------------------------------------------- sections
def each(args, t, redis, sec, extra=""):
    res = {}
    for name, cmd in args.exporters:
        try:
            res[name] = Exporter(args, name, cmd, redis, extra)
        except RuntimeError as e:
            t.notes.append(f"{sec}: {e}")
            t.left_out = True
    return res


def sec_single(args, t):
    """a, b, c: latency one after the other, CPU, memory, what it costs the server."""
    S, r = "single target", args.main
    ex = each(args, t, r.addr, S)
    for n, e in ex.items():
        t.put(S, "start to first answer", n, e.start_ms, "ms")
        t.put(S, "RSS before the first scrape", n, mem(e.pid)["VmRSS"], "MiB")
    kinds = [("/metrics gzip", lambda e: e.metrics(PROM)), ("/metrics plain", lambda e: e.metrics(PLAIN)),
             ("/scrape gzip", lambda e: e.scrape(r.addr, PROM)), ("/scrape plain", lambda e: e.scrape(r.addr, PLAIN))]
    for label, get in kinds:
        got = {n: {"lat": [], "cpu": [], "srv": [], "conn": [], "out": [], "floor": []} for n in ex}
        for rnd in range(args.rounds):
            for n, e in (list(ex.items()) if rnd % 2 == 0 else list(ex.items())[::-1]):
                for _ in range(5):
                    get(e)
                g, k = got[n], args.requests
                c0, s0 = cpu_s(e.pid), r.counters()
                for _ in range(k):
                    took, status, head, parts = get(e)
                    if status != 200:
                        raise SystemExit(f"{n}: HTTP {status} for {label}")
                    g["lat"].append(took * 1000)
                c1, s1 = cpu_s(e.pid), r.counters()
                g["cpu"].append((c1 - c0) / k * 1000)
                g["srv"].append((s1["cpu"] - s0["cpu"]) / k * 1000)
                diff = {x: s1["calls"][x] - s0["calls"].get(x, 0) for x in s1["calls"]}
                diff["info"] = diff.get("info", 0) - 1      # our own
                g["cmds"] = {x: v / k for x, v in diff.items() if v}
                g["floor"] += bare_round_trips(r, bare_commands(g["cmds"], n == args.exporters[0][0]), max(50, k // 5))[0]
                g["conn"].append((s1["conns"] - s0["conns"]) / k)
                g["out"].append((s1["out"] - s0["out"]) / k / 1024)
                g["bytes"] = len(b"".join(parts))
                if "plain" in label:
                    b = body_of(head, parts)
                    g["series"] = sum(1 for x in b.splitlines() if x and not x.startswith(b"#"))
        for n, g in got.items():
            t.put(S, f"{label} p50", n, pct(g["lat"], .5), "ms")
            t.put(S, f"{label} p99", n, pct(g["lat"], .99), "ms")
            t.put(S, f"{label} p50 over the bare round trip of its commands", n, pct(g["lat"], .5) / pct(g["floor"], .5), "")
            t.put(S, f"{label} exporter CPU per scrape", n, med(g["cpu"]), "ms")
            t.put(S, f"{label} server CPU per scrape", n, med(g["srv"]), "ms")
            t.put(S, f"{label} size", n, g["bytes"], "bytes")
            if "series" in g:
                t.put(S, f"{label} series", n, g["series"], "")
            t.put(S, f"{label} server commands per scrape", n, sum(g["cmds"].values()), "")
            t.put(S, f"{label} new connections per scrape", n, med(g["conn"]), "")
            t.put(S, f"{label} bytes from the server", n, med(g["out"]), "KiB")
            if label == "/metrics gzip":
                t.notes.append(f"{n} sends per scrape: " + ", ".join(f"{x} {v:.2g}" for x, v in g["cmds"].items() if v > .01))
    for n, e in ex.items():
        m = mem(e.pid)
        t.put(S, "RSS after", n, m["VmRSS"], "MiB")
        t.put(S, "anonymous RSS after", n, m["RssAnon"], "MiB")
        t.put(S, "peak RSS", n, m["VmHWM"], "MiB")
        t.put(S, "threads", n, m["Threads"], "")
        e.end()


def sec_conc(args, t):
    """d: closed-loop throughput."""
    S, r = "throughput, one target (gzip)", args.main
    ex = each(args, t, r.addr, S)
    for kind in ("/metrics", "/scrape"):
        for conns in (1, 8, 32):
            got = {n: {"rps": [], "cpu": [], "p99": []} for n in ex}
            for rnd in range(args.rounds):
                for n, e in (list(ex.items()) if rnd % 2 == 0 else list(ex.items())[::-1]):
                    path = args.metrics_path if kind == "/metrics" else e.scrape_path(r.addr)
                    c0 = cpu_s(e.pid)
                    w = wrk(e.port, path, conns, args.seconds, PROM)
                    cpu = cpu_s(e.pid) - c0
                    if w["bad"] or w["err"]:
                        t.notes.append(f"{n} {kind} c={conns}: {w['bad']} bad answers; {w['err']}")
                    if w["n"]:
                        got[n]["rps"].append(w["n"] / w["s"])
                        got[n]["cpu"].append(w["n"] / max(cpu, 1e-9))
                        got[n]["p99"].append(w["p99"])
            for n, g in got.items():
                t.put(S, f"{kind} c={conns} scrapes/s", n, med(g["rps"]), "1/s")
                t.put(S, f"{kind} c={conns} scrapes per exporter core-second", n, med(g["cpu"]), "1/s")
                t.put(S, f"{kind} c={conns} p99", n, med(g["p99"]), "ms")
    for n, e in ex.items():
        t.put(S, "peak RSS", n, mem(e.pid)["VmHWM"], "MiB")
        e.end()


def sec_many(args, t):
    """e: many small servers through one exporter."""
    S = f"{args.targets} targets, 32 at once (gzip)"
    rs = [Redis(args, ("--hz", "1", "--io-threads", "1", "--loglevel", "warning")) for _ in range(args.targets)]
    for r in rs:
        r.c.pipe([("SET", f"k{i}", "v") for i in range(100)])
    lua = os.path.join(args.tmp, "many.lua")
    ex = each(args, t, rs[0].addr, S)
    got = {n: {"s": [], "cpu": [], "p50": [], "p99": []} for n in ex}
    with open(lua, "w") as f:
        paths = ",\n".join('"' + args.scrape_path.format(target=r.addr) + '"' for r in rs)
        f.write(f"local p={{{paths}}}\nlocal i=0\nrequest=function() i=i%#p+1 return wrk.format('GET',p[i]) end\n")
    for rnd in range(args.rounds):
        for n, e in (list(ex.items()) if rnd % 2 == 0 else list(ex.items())[::-1]):
            c0 = cpu_s(e.pid)
            w = wrk(e.port, "/", 32, args.seconds, PROM, lua)
            cycles = w["n"] / args.targets
            if w["bad"] or w["err"]:
                t.notes.append(f"{n} many: {w['bad']} bad answers; {w['err']}")
            got[n]["s"].append(w["s"] / cycles)
            got[n]["cpu"].append((cpu_s(e.pid) - c0) / cycles)
            got[n]["p50"].append(w["p50"])
            got[n]["p99"].append(w["p99"])
    for n, e in ex.items():
        g, m = got[n], mem(e.pid)
        t.put(S, "time per full cycle", n, med(g["s"]), "s")
        t.put(S, "exporter CPU per cycle", n, med(g["cpu"]), "s")
        t.put(S, "scrape p50", n, med(g["p50"]), "ms")
        t.put(S, "scrape p99", n, med(g["p99"]), "ms")
        t.put(S, "RSS after", n, m["VmRSS"], "MiB")
        t.put(S, "peak RSS", n, m["VmHWM"], "MiB")
        t.put(S, "open files after", n, m["fds"], "")
        e.end()
    for r in rs:
        end(r.p)


def sec_rtt(args, t):
    """f: a slow network between exporter and server; shows the round trips made one after the other."""
    S, r = f"{args.delay_ms} ms more per direction", args.main
    lp = free_port()
    p = spawn([sys.executable, os.path.abspath(__file__), "proxy", str(lp), str(r.port), str(args.delay_ms)],
              os.path.join(args.tmp, "proxy.log"))
    wait_port(lp)
    ex = each(args, t, f"127.0.0.1:{lp}", S)
    for n, e in ex.items():
        for label, target in (("/scrape", f"127.0.0.1:{lp}"), ("/metrics", None)):
            get = (lambda: e.scrape(target)) if target else e.metrics
            for _ in range(3):
                get()
            lat, near = [], []
            for _ in range(30):
                lat.append(get()[0] * 1000)
                near.append(e.scrape(r.addr)[0] * 1000)
            t.put(S, f"{label} p50", n, med(lat), "ms")
            t.put(S, f"{label} round trips one after the other (with the connect)", n,
                  round((med(lat) - med(near)) / (2 * args.delay_ms), 1), "")
        e.end()
    end(p)


def sec_hung(args, t):
    """g: a stopped server and one that drops the connect."""
    S, r = "hung target", args.main
    hung = Redis(args)
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    dead.listen(0)
    dport, fillers = dead.getsockname()[1], []
    for _ in range(3):
        s = socket.socket()
        s.setblocking(False)
        try:
            s.connect(("127.0.0.1", dport))
        except BlockingIOError:
            pass
        fillers.append(s)
    hdr = dict(PROM, **{"X-Prometheus-Scrape-Timeout-Seconds": "5"})

    def timed(port, path):
        t0 = time.perf_counter()
        try:
            _, status, head, parts = Http(port, args.timeout).get(path, hdr)
            return time.perf_counter() - t0, f"HTTP {status}"
        except (OSError, EOFError) as x:
            return time.perf_counter() - t0, type(x).__name__

    def many(jobs):
        out, ths = [], []
        for j in jobs:
            th = threading.Thread(target=lambda j=j: out.append(timed(*j)), daemon=True)
            th.start()
            ths.append(th)
        return out, ths

    ex = each(args, t, hung.addr, S)
    for n, e in ex.items():
        healthy = e.scrape_path(r.addr)
        for _ in range(50):
            e.scrape(r.addr)
        base = [e.scrape(r.addr)[0] * 1000 for _ in range(200)]
        hung.stop()
        took, how = timed(e.port, args.metrics_path)
        t.put(S, "one /metrics of a stopped server (scrape timeout header 5 s)", n, took, "s")
        t.notes.append(f"{n}: stopped server, /metrics answered {how} after {took:.1f} s")
        out, ths = many([(e.port, args.metrics_path)] * 3)
        for th in ths:
            th.join()
        t.put(S, "slowest of 3 concurrent /metrics of it", n, max(x[0] for x in out), "s")
        t.put(S, "one /scrape of a target that drops the connect", n, timed(e.port, e.scrape_path(f"127.0.0.1:{dport}"))[0], "s")
        m0 = mem(e.pid)
        reset_peak(e.pid)
        out, ths = many([(e.port, e.scrape_path(hung.addr))] * 200)
        time.sleep(1)
        m1, during, t0 = mem(e.pid), [], time.perf_counter()
        while len(during) < 200 and time.perf_counter() - t0 < 3 and any(th.is_alive() for th in ths):
            during.append(e.scrape(r.addr)[0] * 1000)
        for th in ths:
            th.join()
        m2 = mem(e.pid)
        t.put(S, "200 hung /scrape: slowest", n, max(x[0] for x in out), "s")
        t.put(S, "healthy /scrape p50 without hung ones", n, pct(base, .5), "ms")
        t.put(S, "healthy /scrape p99 without hung ones", n, pct(base, .99), "ms")
        during = during or [float("nan")]      # nan: the hung ones had all ended before
        t.put(S, "healthy /scrape p50 beside 200 hung ones", n, pct(during, .5), "ms")
        t.put(S, "healthy /scrape p99 beside 200 hung ones", n, pct(during, .99), "ms")
        t.put(S, "RSS before", n, m0["VmRSS"], "MiB")
        t.put(S, "RSS with 200 hung", n, m1["VmRSS"], "MiB")
        t.put(S, "peak RSS", n, m2["VmHWM"], "MiB")
        t.put(S, "threads with 200 hung", n, m1["Threads"], "")
        t.put(S, "open files with 200 hung", n, m1["fds"], "")
        hung.cont()
        time.sleep(0.5)
        t0 = time.perf_counter()
        body = b""
        while b"redis_up 1" not in body and time.perf_counter() - t0 < 30:
            _, _, head, parts = e.metrics(PLAIN)
            body = body_of(head, parts)
        t.put(S, "redis_up 1 again after", n, time.perf_counter() - t0, "s")
        e.end()
    for s in fillers + [dead]:
        s.close()
    end(hung.p)


def sec_limit(args, t):
    """h: what the server alone takes for the data of one scrape: one pipelined round trip."""
    r = args.main
    full = [("CLIENT", "SETNAME", "bench"), ("INFO", "ALL"), ("CONFIG", "GET", "*"), ("LATENCY", "LATEST"),
            ("LATENCY", "HISTOGRAM"), ("SLOWLOG", "LEN"), ("SLOWLOG", "GET", "1")]
    peers = [c for c in full if c[0] != "LATENCY"]
    out = []
    for label, cmds, new in (("INFO ALL, kept connection", [("INFO", "ALL")], False),
                             ("7 commands pipelined, kept connection", full, False),
                             ("the same without LATENCY", peers, False),
                             ("7 commands pipelined, new connection", full, True),
                             ("PING, kept connection", [("PING",)], False)):
        lat, cpu, size = bare_round_trips(r, cmds, 1000, new)
        out.append((label, pct(lat, .5), pct(lat, .99), cpu, size))
    t.notes.append("limit (a bare Python client, no metrics made): " + "; ".join(
        f"{a}: p50 {b:.3f} ms, p99 {c:.3f} ms, server CPU {d:.3f} ms, {z:,} bytes" for a, b, c, d, z in out))


SETTINGS = ["maxmemory", "maxclients", "io-threads", "repl-backlog-size", "client-output-buffer-limit", "databases"]
ARGS = {"info": ["INFO", "ALL"], "slowlog|get": ["SLOWLOG", "GET", "1"], "client|setname": ["CLIENT", "SETNAME", "bench"]}


def bare_commands(calls, is_peer):
    """The commands of one scrape, by the calls that the server counted. MONITOR shows no administrative commands,
    so arguments are those that the exporters are known to send: the peer asks for all settings."""
    cmds = []
    for name, times in calls.items():
        words = ARGS.get(name) or name.upper().split("|")
        if name == "config|get":
            words = ["CONFIG", "GET"] + (["*"] if is_peer else SETTINGS)
        cmds += [words] * round(times)
    return cmds


def bare_round_trips(r, cmds, count, new=False):
    """Milliseconds of each of `count` round trips of these commands, server CPU in ms for one, bytes of one."""
    mark = b"e-n-d-o-f-r-e-p-l-y"
    payload = b"".join(Resp.enc(c) for c in cmds + [("ECHO", mark)])

    def connect():
        s = socket.create_connection(("127.0.0.1", r.port), timeout=30)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s
    s = connect()
    lat, size, c0 = [], 0, r.cpu()
    for _ in range(count):
        t0 = time.perf_counter()
        if new:
            s.close()
            s = connect()
        s.sendall(payload)
        tail, size = b"", 0
        while not tail.endswith(mark + b"\r\n"):
            d = s.recv(1 << 20)
            if not d:
                raise SystemExit("the server closed the connection in the middle of a round trip")
            size += len(d)
            tail = (tail + d)[-64:]
        lat.append((time.perf_counter() - t0) * 1000)
    s.close()
    return lat, (r.cpu() - c0) * 1000 / count, size


def sec_keys(args, t):
    """i: scanning keys on a large database."""
    S = f"key scanning, {args.keys:,} keys (/metrics, no gzip)"
    r = Redis(args)
    r.c.do("DEBUG", "POPULATE", args.keys, "key", 16)
    for pre, n in (("pick", 100), ("mid", 10000), ("big", 100000)):
        r.c.pipe([("SET", f"{pre}:{i}", i) for i in range(n)])
    modes = [("check-keys, 100 match", "--check-keys=pick:*"), ("check-keys, 10k match", "--check-keys=mid:*"),
             ("check-keys, 100k match", "--check-keys=big:*"), ("count-keys, all", "--count-keys=key:*"),
             ("check-key-groups, all", "--check-key-groups='^(.*):[^:]+$'")]
    for label, extra in modes:
        ex = each(args, t, r.addr, S, extra)
        for n, e in ex.items():
            took, cpu, srv, size, status, cmds = [], [], [], 0, 0, {}
            for i in range(3):
                c0, s0 = cpu_s(e.pid), r.counters()
                try:
                    x, status, head, parts = e.metrics(PLAIN)
                except (OSError, EOFError) as err:
                    t.notes.append(f"{n} {label}: {type(err).__name__}")
                    break
                s1 = r.counters()
                took.append(x)
                cpu.append(cpu_s(e.pid) - c0)
                srv.append(s1["cpu"] - s0["cpu"])
                size = len(b"".join(parts))
                cmds = sum(s1["calls"].values()) - sum(s0["calls"].values())
            if took:
                m = mem(e.pid)
                t.put(S, f"{label}: time", n, med(took), "s")
                t.put(S, f"{label}: exporter CPU", n, med(cpu), "s")
                t.put(S, f"{label}: server CPU", n, med(srv), "s")
                t.put(S, f"{label}: server commands", n, cmds, "")
                t.put(S, f"{label}: peak RSS", n, m["VmHWM"], "MiB")
                t.put(S, f"{label}: RSS after", n, m["VmRSS"], "MiB")
                t.put(S, f"{label}: size", n, size, "bytes")
            e.end()
    end(r.p)


SECTIONS = {"limit": sec_limit, "single": sec_single, "conc": sec_conc, "many": sec_many, "rtt": sec_rtt,
            "hung": sec_hung, "keys": sec_keys}


# ---------------------------------------------------------------- delaying proxy
async def proxy(lport, rport, delay):
    async def pump(rd, wr, first):
        q, loop = asyncio.Queue(), asyncio.get_running_loop()

        async def drain():
            while True:
                due, d = await q.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if d is None:
                    break
                wr.write(d)
            wr.close()
        task = loop.create_task(drain())
        try:
            while d := await rd.read(1 << 18):
                q.put_nowait((loop.time() + delay + first, d))
                first = 0       # the connect's own round trip is put on the first bytes
        except OSError:
            pass
        q.put_nowait((loop.time() + delay, None))
        await task

    async def one(rd, wr):
        srd, swr = await asyncio.open_connection("127.0.0.1", rport, limit=1 << 20)
        for w in (wr, swr):
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(pump(rd, swr, 2 * delay), pump(srd, wr, 0), return_exceptions=True)
    srv = await asyncio.start_server(one, "127.0.0.1", lport, limit=1 << 20)
    await srv.serve_forever()


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "proxy":
        return asyncio.run(proxy(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) / 1000))
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--exporter", action="append", required=True, metavar="NAME=COMMAND",
                    help="placeholders {listen} {port} {redis}; repeat it; the first is the base of the ratios")
    ap.add_argument("--sections", default=",".join(SECTIONS), help="of: %(default)s")
    ap.add_argument("--redis-server", default="redis-server", help="redis-server or valkey-server")
    ap.add_argument("--metrics-path", default="/metrics")
    ap.add_argument("--scrape-path", default="/scrape?target={target}")
    ap.add_argument("--requests", type=int, default=500, help="scrapes one after the other per round")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=int, default=5, help="per wrk run")
    ap.add_argument("--targets", type=int, default=200)
    ap.add_argument("--delay-ms", type=float, default=5)
    ap.add_argument("--keys", type=int, default=1_000_000, help="of the database of section keys")
    ap.add_argument("--fill", type=int, default=100_000, help="keys of the main server")
    ap.add_argument("--commands", type=int, default=150, help="distinct commands the main server has seen")
    ap.add_argument("--clients", type=int, default=300, help="idle clients of the main server")
    ap.add_argument("--timeout", type=float, default=120, help="HTTP client timeout in s")
    ap.add_argument("--json", metavar="FILE", help="write the numbers there as well")
    args = ap.parse_args()
    args.exporters = [tuple(x.split("=", 1)) for x in args.exporter]
    want = args.sections.split(",")
    for w in want:
        if w not in SECTIONS:
            ap.error(f"no section {w}")
    if {"conc", "many"} & set(want) and not shutil.which("wrk"):
        ap.error("sections conc and many need wrk")
    args.tmp = tempfile.mkdtemp(prefix="exporter-bench-")
    args.debug_flag = Redis.debug_flag(args.redis_server)
    t = Table([n for n, _ in args.exporters])
    args.main = Redis(args)
    fill(args.main, args.fill, args.clients, args.commands)
    i = args.main.c.info("all")
    t.notes.append(f"server {i.get('valkey_version') or i['redis_version']}: {sum(k.startswith('cmdstat_') for k in i)} "
                   f"commands in commandstats, {i['connected_clients']} clients, {sum(k.startswith('db') and k[2:].isdigit() for k in i)} databases, "
                   f"{len(args.main.c.do('LATENCY', 'HISTOGRAM')) // 2} latency histograms; {os.cpu_count()} cores")
    for w in want:
        log(f"section {w} …")
        t0, b0 = time.time(), others_busy()
        SECTIONS[w](args, t)
        took = time.time() - t0
        t.notes.append(f"section {w}: {took:.0f} s, other processes kept {(others_busy() - b0) / took:.2f} cores busy")
        log(t.notes[-1])
    print(t.show())
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"base": t.names[0], "exporters": dict(args.exporters), "taken": time.strftime("%FT%TZ", time.gmtime()),
                       "kernel": os.uname().release, "cores": os.cpu_count(), "rows": t.rows, "notes": t.notes}, f, indent=1)
    end_all()
    shutil.rmtree(args.tmp, ignore_errors=True)
    if t.left_out:
        sys.exit("not every exporter took part in every section: see the notes")


if __name__ == "__main__":
    main()
