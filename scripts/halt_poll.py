"""Makes it cheap to wake a processor during a benchmark: waking is most of the cost of a request."""


class HaltPoll:
    """Within the block, an idle processor of this virtual machine polls for this many nanoseconds before it halts."""

    PATH = "/sys/module/haltpoll/parameters/guest_halt_poll_ns"

    @staticmethod
    def add_option(parser):
        parser.add_argument("--halt-poll", type=int, metavar="NS", help="measure requests where waking a processor is cheap: try 200000")

    def __init__(self, nanoseconds):
        self.nanoseconds = nanoseconds

    def set(self, nanoseconds):
        with open(self.PATH, "w") as file:
            file.write(nanoseconds)

    def __enter__(self):
        if self.nanoseconds is not None:
            self.before = open(self.PATH).read()
            self.set(str(self.nanoseconds))

    def __exit__(self, *_):
        if self.nanoseconds is not None:
            self.set(self.before)
