"""Runs programs for run.ts: each line of input asks for one, each line of output is an answer. Ends, with all programs, at the end of its input."""

import json
import os
import selectors
import signal
import sys
import time

SELECTOR = selectors.DefaultSelector()
# Between the polite signal at a program's deadline and the other one.
GRACE_SECONDS = 5
RUNNING = set()


class Program:
    def __init__(self, id, command, input, seconds):
        self.id, self.output, self.status, self.late = id, {1: b"", 2: b""}, None, False
        actions, pipes = [self.standard_input(input)], {}
        for fd in (1, 2):
            pipes[fd], end = os.pipe()
            actions.append((os.POSIX_SPAWN_DUP2, end, fd))
        try:
            self.pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
        except OSError:
            for pipe in pipes.values():
                os.close(pipe)
            raise
        finally:
            for kind, end, *_ in actions:
                if kind == os.POSIX_SPAWN_DUP2:
                    os.close(end)
        self.deadline = time.monotonic() + seconds
        pidfd = os.pidfd_open(self.pid)
        self.open = {pidfd, *pipes.values()}
        RUNNING.add(self)
        for fd, pipe in pipes.items():
            SELECTOR.register(pipe, selectors.EVENT_READ, lambda pipe, fd=fd: self.read(pipe, fd))
        SELECTOR.register(pidfd, selectors.EVENT_READ, self.ended)

    @staticmethod
    def standard_input(text):
        if text is None:
            return (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        # A file in memory, which needs nobody to write it piece by piece.
        file = os.memfd_create("input")
        with open(file, "wb", closefd=False) as writer:
            writer.write(text.encode())
        os.lseek(file, 0, os.SEEK_SET)
        return (os.POSIX_SPAWN_DUP2, file, 0)

    def read(self, pipe, fd):
        part = os.read(pipe, 1 << 20)
        self.output[fd] += part
        if part == b"":
            self.close(pipe)

    def ended(self, pidfd):
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.close(pidfd)

    def close(self, fd):
        SELECTOR.unregister(fd)
        os.close(fd)
        self.open.remove(fd)
        if not self.open:
            RUNNING.remove(self)
            why = "timed out" if self.late else None if self.status >= 0 else f"signal {-self.status}"
            stdout, stderr = (self.output[fd].decode("utf-8", "replace") for fd in (1, 2))
            answer(self.id, code=self.status, stdout=stdout, stderr=stderr, why=why)

    def expire(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL if self.late else signal.SIGTERM)
        elif self.late:
            # Another process still holds its output.
            for fd in list(self.open):
                self.close(fd)
        self.late, self.deadline = True, time.monotonic() + GRACE_SECONDS


def answer(id, **facts):
    line = memoryview(f"{json.dumps({'id': id, **facts})}\n".encode())
    while line:
        line = line[os.write(1, line) :]


def ask(line):
    question = json.loads(line)
    if question["env"] is not None:
        os.environ.clear()
        os.environ.update(question["env"])
    try:
        Program(question["id"], question["command"], question["input"], question["seconds"])
    except OSError as error:
        answer(question["id"], code=None, stdout="", stderr="", why=str(error))


class Questions:
    rest = b""

    def read(self, fd):
        part = os.read(fd, 1 << 20)
        if part == b"":
            for program in RUNNING:
                if program.status is None:
                    os.kill(program.pid, signal.SIGTERM)
            sys.exit()
        *lines, self.rest = (self.rest + part).split(b"\n")
        for line in lines:
            ask(line)


# Python ignores or catches them, and programs would inherit that.
for each in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(each, signal.SIG_DFL)
SELECTOR.register(0, selectors.EVENT_READ, Questions().read)
while True:
    next_deadline = min((program.deadline for program in RUNNING), default=None)
    wait = None if next_deadline is None else max(0, next_deadline - time.monotonic())
    for key, _ in SELECTOR.select(wait):
        key.data(key.fd)
    for program in [each for each in RUNNING if each.deadline <= time.monotonic()]:
        program.expire()
