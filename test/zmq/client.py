"""A platform that knows only the contract: pyzmq and struct, no code of ours. Run inside the host's namespace.

    client.py SCENARIO NETNS-PREFIX COUNT        prints one JSON object
"""

import json
import struct
import sys
import time

import zmq

REQUESTS, EVENTS, RPC = (f'tcp://127.0.0.1:{port}' for port in (30027, 30028, 30029))
NETWORK = 'paper'
FIELDS = ('ip', 'network', 'port', 'bandwidth', 'delay', 'rx_total', 'tx_total', 'rx_rate', 'tx_rate')
PATIENCE_MS = 60_000


def text(value):
    data = value.encode()
    return struct.pack('<i', len(data)) + data


def connection(cid, detail, bandwidth=0, port=0):
    numbers = struct.pack('<9i', 0, 0, port, bandwidth, 0, 0, 0, 0, 0)
    return text(cid) + text('name of ' + cid) + text('') + numbers + text(json.dumps(detail))


def network(name, subnet='', egress=0):
    return text(name) + text(subnet) + text('') + struct.pack('<ii', 0, egress)


def message(kind, data):
    return struct.pack('<ii', len(data), kind) + data


def read_text(data, at):
    (length,) = struct.unpack_from('<i', data, at)
    end = at + 4 + length
    return data[at + 4 : end].decode(), end


def read(answer):
    """The answer's fields, each found at its offset; nothing may be left over."""
    length, kind = struct.unpack_from('<ii', answer)
    data = answer[8:]
    assert length == len(data), (length, len(data))
    if kind in (101, 102, 103):
        cid, at = read_text(data, 0)
        name, at = read_text(data, at)
        pid, at = read_text(data, at)
        values = dict(zip(FIELDS, struct.unpack_from('<9i', data, at)))
        detail, end = read_text(data, at + 36)
        result = dict(kind=kind, id=cid, name=name, pid=pid, detail=json.loads(detail), **values)
    elif kind in (111, 112, 113):
        name, at = read_text(data, 0)
        subnet, at = read_text(data, at)
        gateway, at = read_text(data, at)
        vni, egress = struct.unpack_from('<ii', data, at)
        end = at + 8
        result = dict(kind=kind, name=name, subnet=subnet, gateway=gateway, vni=vni, egress=egress)
    else:
        assert kind == 199, kind
        (code,) = struct.unpack_from('<i', data)
        words, at = read_text(data, 4)
        detail, end = read_text(data, at)
        result = dict(kind=kind, code=code, message=words, detail=json.loads(detail))
    assert end == len(data), (end, len(data))
    return result


class Platform:
    """Requests by PUB, answers by SUB; or both by DEALER."""

    def __init__(self, context, way):
        self.way = way
        self.events = context.socket(zmq.SUB)
        self.events.setsockopt(zmq.RCVHWM, 0)
        self.events.connect(EVENTS)
        self.events.subscribe(b'')
        self.out = context.socket(zmq.PUB if way == 'publish' else zmq.DEALER)
        self.out.setsockopt(zmq.SNDHWM, 0)
        self.out.setsockopt(zmq.LINGER, 0)
        self.out.connect(REQUESTS if way == 'publish' else RPC)
        self.source = self.events if way == 'publish' else self.out
        for socket in (self.events, self.out):
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        if way == 'publish':
            self.wait_until_heard()

    def wait_until_heard(self):
        """A PUB socket drops what it sends before a subscription has reached it: ask until an answer comes."""
        self.events.setsockopt(zmq.RCVTIMEO, 100)
        for _ in range(100):
            self.out.send(message(13, network('nobody-has-this')))
            try:
                self.events.recv()
                break
            except zmq.Again:
                continue
        time.sleep(0.3)
        try:
            while True:
                self.events.recv()
        except zmq.Again:
            pass
        self.events.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)

    def send(self, kind, data):
        self.out.send(message(kind, data))

    def raw(self, *parts):
        self.out.send_multipart(parts)

    def answers(self, count):
        return [read(self.source.recv()) for _ in range(count)]

    def ask(self, kind, data):
        self.send(kind, data)
        return self.answers(1)[0]


def life(platform, prefix, count):
    """Creates a network and connections in one go, queries them, deletes all."""
    tag = platform.way
    ids = [f'{tag}-{n}' for n in range(count)]
    platform.send(11, network(NETWORK, '10.77.0.0/16', 8_000_000))
    for n, cid in enumerate(ids):
        detail = {'network': NETWORK, 'netns': f'{prefix}{n}', 'requestId': f'r-{cid}', 'labels': {'n': str(n)}}
        platform.send(1, connection(cid, detail))
    created = platform.answers(count + 1)
    again = platform.ask(1, connection(ids[0], {'network': NETWORK, 'netns': f'{prefix}0'}))
    queried = platform.ask(3, connection(ids[0], {}))
    shown = platform.ask(13, network(NETWORK))
    unknown = platform.ask(3, connection('nobody', {}))
    return dict(created=created, again=again, queried=queried, network=shown, unknown=unknown)


def end(platform, count):
    for n in range(count):
        platform.send(2, connection(f'{platform.way}-{n}', {}))
    platform.send(12, network(NETWORK))
    return dict(deleted=platform.answers(count + 1))


def bad(platform):
    """Thirty kinds of frames that are wrong; afterwards the door must be as open as before."""
    good = connection('x', {})
    frames = [
        [b''], [b'\0'], [b'\0' * 7], [b'\0' * 8], [b'\xff' * 8], [b'\xff' * 4096],
        [message(0, good)], [message(4, good)], [message(99, good)], [message(101, good)], [message(199, good)],
        [message(-1, good)], [message(1, b'')], [message(1, good[:-1])], [message(1, good + b'x')],
        [message(2, good[:20])], [message(3, text('x'))], [message(3, struct.pack('<i', -1))],
        [message(3, struct.pack('<i', 2**31 - 1))], [message(3, struct.pack('<i', -(2**31)))],
        [message(3, text('x')[:-1])], [message(11, b'')], [message(11, text('n'))], [message(11, network('n')[:-1])],
        [message(12, network('../etc'))], [message(13, network('UPPER'))], [message(11, network('n', '10.0.0.0/33'))],
        [message(1, connection('-x', {}))], [message(1, connection('x', {'network': 'no-such'}))],
        [message(1, text('x') + text('') + text('0') + b'\0' * 36 + text('{'))],
        [struct.pack('<ii', 5, 1) + good], [message(1, good), b'second part'],
    ]
    answers = []
    for frame in frames:
        platform.raw(*frame)
        answers.append(platform.answers(1)[0])
    return dict(frames=len(frames), answers=answers, after=platform.ask(13, network('nobody-has-this')))


def burst(platform, count):
    since = time.monotonic()
    for _ in range(count):
        platform.send(13, network('nobody-has-this'))
    answers = platform.answers(count)
    seconds = time.monotonic() - since
    return dict(answered=len(answers), kinds=sorted({a['kind'] for a in answers}), perSecond=round(count / seconds))


def main():
    scenario, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    verb, way = scenario.split('-')
    platform = Platform(zmq.Context(), way)
    run = {
        'life': lambda: life(platform, prefix, count),
        'end': lambda: end(platform, count),
        'bad': lambda: bad(platform),
        'burst': lambda: burst(platform, count),
        'port': lambda: platform.ask(1, connection('ported', {'network': 'red', 'netns': prefix}, port=count)),
        'query': lambda: platform.ask(3, connection(f'{prefix}-0', {})),
    }[verb]
    print(json.dumps(run()))


main()
