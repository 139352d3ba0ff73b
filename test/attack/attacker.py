"""What the attack suite does from a namespace, beyond what Node and scapy do well: floods, slow readers, probes.

usage: attacker.py WHAT ARGUMENTS...; prints one JSON line. Bounded in count and time.
"""

import json
import os
import random
import resource
import socket
import struct
import sys
import threading
import time

TIMEOUT_S = 10


def say(value):
    print(json.dumps(value), flush=True)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address, port):
    """TCP: answers each connection with `yes`; UDP: returns each datagram. Without an address in both families."""
    import select

    both = address == ""
    family = socket.AF_INET6 if both else family_of(address)
    listening = socket.create_server((address, int(port)), family=family, dualstack_ipv6=both, backlog=1024)
    returning = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        returning.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    returning.bind((address, int(port)))
    sockets = {listening: "tcp", returning: "udp"}
    say("up")
    while True:
        for ready in select.select(list(sockets), [], [])[0]:
            if sockets[ready] == "tcp":
                connection, _ = ready.accept()
                connection.sendall(b"yes")
                connection.close()
            else:
                data, sender = ready.recvfrom(65536)
                ready.sendto(data, sender)


def connect(address, port, count):
    """How many of so many TCP connections are answered."""
    answered = 0
    for _ in range(int(count)):
        try:
            with socket.create_connection((address, int(port)), timeout=3) as connection:
                answered += connection.recv(3) == b"yes"
        except OSError:
            pass
    say(answered)


def datagrams(address, port, count, bytes_each=1):
    """How many of so many UDP datagrams are returned; those that are longer than the MTU go in fragments."""
    returned = 0
    for n in range(int(count)):
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as one:
            one.settimeout(1)
            try:
                data = (b"%d" % n).ljust(int(bytes_each))
                one.sendto(data, (address, int(port)))
                returned += one.recv(65536) == data
            except OSError:
                pass
    say(returned)


def reach(address, port):
    """`yes` or the name of the error."""
    try:
        with socket.create_connection((address, int(port)), timeout=TIMEOUT_S) as connection:
            connection.settimeout(1)
            try:
                say("yes" if connection.recv(9) != b"" else "closed")
            except socket.timeout:
                say("yes")
    except OSError as error:
        say(type(error).__name__)


def garbage(address, port, seconds, limit, opening=""):
    """Streams of random bytes after an opening in hexadecimal, four at a time, each until the other side closes or
    `limit` bytes are sent."""
    noise = random.Random(7).randbytes(1 << 20)
    end = time.monotonic() + float(seconds)
    lock = threading.Lock()
    total = {"connections": 0, "bytes": 0, "most": 0, "refused": 0}

    def work(seed):
        at = random.Random(seed)
        while time.monotonic() < end:
            sent = 0
            try:
                with socket.create_connection((address, int(port)), timeout=TIMEOUT_S) as stream:
                    stream.sendall(bytes.fromhex(opening))
                    while sent < int(limit) and time.monotonic() < end:
                        start = at.randrange(0, len(noise) - 65536)
                        sent += stream.send(noise[start : start + 65536])
            except OSError:
                with lock:
                    total["refused"] += 1
            with lock:
                total["connections"] += 1
                total["bytes"] += sent
                total["most"] = max(total["most"], sent)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say(total)


def flood(addresses, port, seconds):
    """Connections that say nothing, to each address in turn, as many as possible; prints `up` first, and the count once its input ends."""
    targets = [(address, int(port)) for address in addresses.split(",")]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    end = time.monotonic() + float(seconds)
    over = threading.Event()

    def wait():
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    open_ones, made = [], 0
    say("up")
    while time.monotonic() < end and not over.is_set():
        one = socket.socket(family_of(targets[0][0]))
        one.setblocking(False)
        try:
            one.connect(targets[made % len(targets)])
        except BlockingIOError:
            pass
        except OSError:
            one.close()
            time.sleep(0.01)
            continue
        made += 1
        open_ones.append(one)
        if len(open_ones) > min(20_000, most - 100):
            open_ones.pop(0).close()
    say({"connections": made, "ended": not over.is_set()})


def gossip(address, port, count, streams):
    """Random datagrams, and random bytes over TCP, to Serf's port."""
    noise = random.Random(9)
    target = (address, int(port))
    sent = 0
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as out:
        for _ in range(int(count)):
            out.sendto(noise.randbytes(64), target)
            sent += 1
    for _ in range(int(streams)):
        try:
            with socket.create_connection(target, timeout=TIMEOUT_S) as stream:
                stream.sendall(noise.randbytes(256))
        except OSError:
            pass
    say(sent)


def half_open(device, gateway, source, target, ports, pairs, seconds):
    """SYN and ACK of made-up connections, `pairs` to each of so many ports, by the default gateway, for some seconds."""
    import fcntl

    family = family_of(source)
    kind = 0x86DD if family == socket.AF_INET6 else 0x0800
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((device, kind))
    own = fcntl.ioctl(out, 0x8927, struct.pack("256s", device.encode()))[18:24]
    link = bytes.fromhex(gateway.replace(":", "")) + own + struct.pack("!H", kind)
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    if family == socket.AF_INET6:
        header = struct.pack("!IHBB", 6 << 28, 20, 6, 64) + ends
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0x4000, 64, 6, 0) + ends
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    pseudo = sum(struct.unpack("!%dH" % (len(ends) // 2), ends)) + 6 + 20
    sent, end = 0, time.monotonic() + float(seconds)
    for dport in range(1, int(ports) + 1):
        for sport in range(1024, 1024 + int(pairs)):
            if sport % 64 == 0 and time.monotonic() > end:
                return say(sent)
            for flags in (0x02, 0x10):
                total = pseudo + sport + dport + 1 + (0x5000 | flags) + 8192
                total = (total & 0xFFFF) + (total >> 16)
                total = (total & 0xFFFF) + (total >> 16)
                # sequence 1, acknowledgement 0, window 8192
                segment = struct.pack("!HHIIHHHH", sport, dport, 1, 0, 0x5000 | flags, 8192, ~total & 0xFFFF, 0)
                try:
                    out.send(link + header + segment)
                    sent += 1
                except OSError:
                    time.sleep(0.001)
    say(sent)


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def switch(link, one, two, count):
    """Switches a symlink between two targets so many times, faster and slower; prints how often once it is over."""
    at = random.Random(3)
    say("up")
    for n in range(int(count)):
        os.symlink((one, two)[n % 2], link + ".new")
        os.rename(link + ".new", link)
        time.sleep(at.choice((0, 0, 0.001, 0.002, 0.03)))
    say(int(count))


def raw(port, request):
    """Sends bytes to a port of loopback; how the connection ends, and how much was answered."""
    answer = 0
    with socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_S) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(bytes.fromhex(request))
            while more := connection.recv(65536):
                answer += len(more)
            say({"end": "closed", "answer": answer})
        except socket.timeout:
            say({"end": "open", "answer": answer})
        except OSError:
            say({"end": "closed", "answer": answer})


def question(bytes_each):
    """Of the paper's API, about a network that does not exist; its name is as long as it may be."""
    name = b"N" * int(bytes_each)
    body = struct.pack("<i", len(name)) + name + bytes(16)
    return struct.pack("<ii", len(body), 13) + body


def deaf(port, count, bytes_each):
    """Asks by a DEALER and reads nothing, for as long as its input is open; prints how much it asked first."""
    import zmq

    out = zmq.Context().socket(zmq.DEALER)
    out.RCVHWM, out.LINGER, out.SNDTIMEO = 1, 0, 2000
    out.connect("tcp://127.0.0.1:%s" % port)
    one, asked = question(bytes_each), 0
    for _ in range(int(count)):
        try:
            out.send(one)
            asked += 1
        except zmq.Again:
            break
    out.poll(2000)
    say(asked)
    sys.stdin.read()


def chat(port, count, bytes_each):
    """Asks as much, but reads: how many of so many questions are answered, with some hundreds on their way."""
    import zmq

    out = zmq.Context().socket(zmq.DEALER)
    out.RCVTIMEO, out.LINGER = 10_000, 0
    out.connect("tcp://127.0.0.1:%s" % port)
    one, answered = question(bytes_each), 0
    for n in range(int(count)):
        out.send(one)
        if n >= 500:
            answered += len(out.recv()) > 8
    while answered < int(count):
        answered += len(out.recv()) > 8
    say(answered)


def ask(port, count):
    """How many of so many questions a client of the paper's API gets answers to, one at a time."""
    import zmq

    out = zmq.Context().socket(zmq.REQ)
    out.RCVTIMEO, out.LINGER = 10_000, 0
    out.connect("tcp://127.0.0.1:%s" % port)
    body = struct.pack("<i", 4) + b"none" + bytes(16)
    answered = 0
    for _ in range(int(count)):
        out.send(struct.pack("<ii", len(body), 13) + body)
        answered += len(out.recv()) > 8
    say(answered)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
