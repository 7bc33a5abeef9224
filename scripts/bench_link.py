"""Two network namespaces connected by a slow link: packets pass through two TUN devices, with a delay and a rate in each direction.

Many kernels have no netem, so this program forwards the packets itself. They are large (9,000 bytes) to save processor time; the initial
congestion window is set so that a connection starts with about as many bytes as with packets of 1,500 bytes.
"""
import collections, fcntl, os, select, struct, subprocess, threading, time

MTU = 9000
SERVER, CLIENT = "10.97.0.1", "10.97.0.2"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Link:
    """The link, until closed. `server` and `client` are prefixes for commands that run in the two namespaces."""

    def __init__(self, rtt_ms, mbit):
        self.delay, self.rate = rtt_ms / 2000, mbit * 1e6 / 8
        mark = f"hf{os.getpid()}"
        self.names = [mark + "s", mark + "c"]
        self.bytes = [0, 0]
        self.fds = [self.end(name) for name in self.names]
        for name, own, other in zip(self.names, (SERVER, CLIENT), (CLIENT, SERVER)):
            ip("netns", "add", name)
            ip("link", "set", name, "netns", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", own, "peer", other, "dev", name)
            ip("-n", name, "link", "set", name, "mtu", str(MTU), "txqueuelen", "1000", "up")
            ip("-n", name, "route", "replace", other, "dev", name, "initcwnd", "2")
        self.stop = threading.Event()
        self.cut = False
        # In a separate process: otherwise the interpreter's lock would add the benchmark's work to the delay.
        self.counts, counts = os.pipe()
        self.control_read, self.control = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.control)
            try:
                self.carry(counts)
            finally:
                os._exit(0)
        os.close(counts), os.close(self.control_read)

    def end(self, name):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        return fd

    def carry(self, counts):
        """Forwards packets until the control pipe is closed. A byte on that pipe requests the numbers of bytes forwarded so far."""
        waiting = [collections.deque(), collections.deque()]
        free, passed = [0.0, 0.0], [0, 0]
        while True:
            now = time.monotonic()
            nearest = min((queue[0][0] for queue in waiting if queue), default=now + 1)
            ready, _, _ = select.select([*self.fds, self.control_read], [], [], max(0, nearest - now))
            if self.control_read in ready:
                if not os.read(self.control_read, 1):
                    return
                os.write(counts, struct.pack("qq", *passed))
            now = time.monotonic()
            for side, fd in enumerate(self.fds):
                if fd in ready:
                    self.take(fd, waiting[side], free, side, now)
                while waiting[side] and waiting[side][0][0] <= now:
                    packet = waiting[side].popleft()[1]
                    passed[side] += len(packet)
                    self.give(self.fds[1 - side], packet)

    def take(self, fd, queue, free, side, now):
        for _ in range(64):
            try:
                packet = os.read(fd, MTU + 100)
            except BlockingIOError:
                return
            # A queue of 250 ms, as in a router; packets that do not fit are dropped.
            if free[side] - now > 0.25:
                continue
            free[side] = max(free[side], now) + len(packet) / self.rate
            queue.append((free[side] + self.delay, packet))

    @staticmethod
    def give(fd, packet):
        try:
            os.write(fd, packet)
        except OSError:
            pass  # the packet is dropped

    def received(self):
        """The number of bytes that have reached the client so far, including packet headers."""
        os.write(self.control, b".")
        return struct.unpack("qq", os.read(self.counts, 16))[0]

    def server(self, *command):
        return ["nsenter", f"--net=/run/netns/{self.names[0]}", *command]

    def client(self, *command):
        return ["nsenter", f"--net=/run/netns/{self.names[1]}", *command]

    def set_up(self, is_up):
        ip("-n", self.names[1], "link", "set", self.names[1], "up" if is_up else "down")
        if is_up:
            ip("-n", self.names[1], "route", "replace", SERVER, "dev", self.names[1], "initcwnd", "2")

    def close(self):
        os.close(self.control)
        os.waitpid(self.pid, 0)
        for fd in self.fds:
            os.close(fd)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)
