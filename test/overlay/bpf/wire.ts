// Hosts on a wire for tests of what our programs wrap and unwrap: frames of containers, what is on the wire, and who wrapped it.

import { spawn } from 'node:child_process'
import type { Test } from 'tap'
import { addressesOf } from '#model/addresses.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { Vni } from '#model/ids.ts'
import { formatIp, ipv4Of, isIpv4 } from '#model/ip.ts'
import { bytesOfIpv6, parseIpv6 } from '#model/ipv6.ts'
import { vxlanName } from '#overlay/plan/network/names.ts'
import { json, must } from '../../lab/kernel.ts'
import { ETHER, ipv4, ipv6, macBytes, u32 } from '../../lab/packets/frames.ts'
import { Listener, Sender } from '../../lab/packets/raw-socket.ts'
import { ifindexOf } from '../../lab/scenarios/plane.ts'
import { red, Stage } from '../../lab/stage.ts'
import { waitFor } from '../../lab/wait.ts'
import { onesSum } from './ones-sum.ts'

/** The name of a container. */
export type Party = string

type Namespace = { readonly namespace: string }

const AT_ONCE = 100
/** Of a TCP connection. */
const PORT = '5301'
/** For experiments (RFC 3692): nobody sends or answers such packets of its own accord. */
const PROTOCOL = 253

/** A frame from one container to another, whose type of service, options, flags, protocol and content follow from its number. */
export function frameOf(s: Stage, p: { readonly from: Party; readonly to: Party; readonly n: number }): Buffer {
  const [from, to] = [s.endpoint(p.from), s.endpoint(p.to)]
  const random = generator(p.n + 1)
  const body = Buffer.from(Array.from({ length: sizeOf(p.n, random) }, () => random(256)))
  const plain = ipv4({ from: ipv4Of(from.address), to: ipv4Of(to.address), protocol: PROTOCOL, id: p.n & 0xffff }, body)
  const options = p.n % 5 === 0 ? Buffer.from('01010100', 'hex') : Buffer.alloc(0)
  const packet = Buffer.concat([plain.subarray(0, 20), options, plain.subarray(20)])
  packet.writeUInt8(0x45 + options.length / 4, 0)
  packet.writeUInt8(p.n & 0xff, 1)
  packet.writeUInt16BE(packet.length, 2)
  packet.writeUInt16BE([0, 0x4000, 0x2000, 100][random(4)] ?? 0, 6)
  packet.writeUInt8(1 + random(255), 8)
  const header = packet.subarray(0, 20 + options.length)
  header.writeUInt16BE(0, 10)
  header.writeUInt16BE(0xffff - onesSum(header), 10)
  // Not padded: where nftables look into bridged packets, they are cut to their own length.
  return Buffer.concat([macBytes(to.mac), macBytes(from.mac), Buffer.from('0800', 'hex'), packet])
}

/** None, one byte, a whole MTU, and anything in between. */
function sizeOf(n: number, random: (bound: number) => number): number {
  return [0, 1, 2, 1_420, 1_426][n % 17] ?? random(1_400)
}

/** ESP, which nobody sends or answers of its own accord, and fragments of it. */
const [ESP, FRAGMENT] = [50, 44]

/** The same over IPv6: traffic class, flow label, hop limit, fragments and content follow from the number. */
export function frameOf6(s: Stage, p: { readonly from: Party; readonly to: Party; readonly n: number }): Buffer {
  const [from, to] = [p.from, p.to].map(name => s.endpoint(name)) as [Endpoint, Endpoint]
  const random = generator(p.n + 1)
  // At least one byte, and no more than an MTU with the header of a fragment.
  const size = Math.min(Math.max(sizeOf(p.n, random), 1), 1_402)
  const body = Buffer.from(Array.from({ length: size }, () => random(256)))
  const isFragment = p.n % 5 === 0
  const fragment = Buffer.from([ESP, 0, random(32) + 1, random(2), ...u32(p.n)])
  const packet = ipv6(
    { from: bytesOf6(s, p.from), to: bytesOf6(s, p.to), next: isFragment ? FRAGMENT : ESP },
    isFragment ? Buffer.concat([fragment, body]) : body
  )
  packet.writeUInt32BE(0x60000000 + (p.n & 0xff) * 0x100000 + random(0x100000), 0)
  packet.writeUInt8(1 + random(255), 7)
  return Buffer.concat([macBytes(to.mac), macBytes(from.mac), Buffer.from('86dd', 'hex'), packet])
}

function bytesOf6(s: Stage, name: Party): Buffer {
  return Buffer.from(bytesOfIpv6(parseIpv6(address6(s, name))))
}

/** The IPv6 address of a container. */
export function address6(s: Stage, name: Party): string {
  const endpoint = s.endpoint(name)
  const network = s.networks.find(({ vni }) => vni === endpoint.vni)
  const address = network && addressesOf(network, endpoint).find(one => !isIpv4(one))
  if (address === undefined) throw new Error(`${name} has no IPv6 address`)
  return formatIp(address)
}

function generator(seed: number): (bound: number) => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1
  return bound => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % bound
  }
}

/** Listens for frames at a device; `visit` gets a copy of each. */
export async function listen(t: Test, namespace: string, device = 'eth0'): Promise<Ear> {
  const ear = new Ear(Listener.frames(`/run/netns/${namespace}`, await ifindexOf(namespace, device)))
  t.teardown(() => ear.close())
  return ear
}

export class Ear {
  readonly frames: Buffer[] = []
  readonly #listener: Listener

  constructor(listener: Listener) {
    this.#listener = listener
  }

  /** All frames so far of one type, IPv4 by default, from one MAC. */
  heard(mac: string, type: number = ETHER.ipv4): Buffer[] {
    this.#listener.drain(frame => this.frames.push(Buffer.from(frame)))
    const from = mac.replaceAll(':', '')
    return this.frames.filter(f => f.toString('hex', 6, 12) === from && f.readUInt16BE(12) === type)
  }

  close(): void {
    this.#listener.close()
  }
}

/** Sends frames from one container to another. @returns what arrived, once as many have */
export async function exchange(
  t: Test,
  s: Stage,
  p: { readonly from: Party; readonly to: Party; readonly frames: readonly Buffer[] }
): Promise<readonly Buffer[]> {
  const [from, to] = [s.container(p.from), s.container(p.to)]
  const ear = await listen(t, to.namespace)
  const sender = new Sender(from.netns, await ifindexOf(from.namespace))
  t.teardown(() => sender.close())
  const { mac } = s.endpoint(p.from)
  const arrived = (): Buffer[] => [
    ...ear.heard(mac).filter(frame => frame[14 + 9] === PROTOCOL),
    ...ear.heard(mac, ETHER.ipv6).filter(frame => frame[14 + 6] === ESP || frame[14 + 6] === FRAGMENT)
  ]
  for (let at = 0; at < p.frames.length; at += AT_ONCE) {
    const part = p.frames.slice(at, at + AT_ONCE)
    for (const frame of part) sender.send(frame)
    const wanted = at + part.length
    await waitFor(`${wanted} frames from ${p.from} at ${p.to}`, () => arrived().length >= wanted, {
      explain: () => `${arrived().length} arrived`
    })
  }
  return arrived()
}

/** Of the network's VXLAN device on a host: what our programs wrap and unwrap does not pass it. */
export async function tunnelPackets(
  s: Stage,
  host: number,
  vni: Vni = red.vni
): Promise<{ readonly sent: number; readonly received: number }> {
  type Row = { readonly stats64: { readonly tx: { packets: number }; readonly rx: { packets: number } } }
  const { namespace } = s.lab.host(host)
  const [row] = await json<Row>('ip', namespace, `-s link show dev ${vxlanName(vni)}`)
  return { sent: row?.stats64.tx.packets ?? 0, received: row?.stats64.rx.packets ?? 0 }
}

/** What the VXLAN devices of both hosts carried during `work`. */
export async function carried(
  s: Stage,
  [from, to]: readonly [number, number],
  work: () => Promise<unknown>
): Promise<{ readonly sent: number; readonly received: number }> {
  const before = [await tunnelPackets(s, from), await tunnelPackets(s, to)] as const
  await work()
  const after = [await tunnelPackets(s, from), await tunnelPackets(s, to)] as const
  return { sent: after[0].sent - before[0].sent, received: after[1].received - before[1].received }
}

/** Runs a Python program in a container or on a host. */
export async function python(at: Namespace, script: string, ...args: string[]): Promise<string> {
  return must('ip', ['netns', 'exec', at.namespace, '/usr/bin/python3', '-c', script, ...args], { timeoutMs: 120_000 })
}

type Background = { readonly lines: () => readonly string[]; readonly stop: () => void }

/** Starts a Python program that prints `up` once it is ready, and runs until it is stopped or ends. */
async function background(at: Namespace, script: string, ...args: readonly string[]): Promise<Background> {
  const command = ['netns', 'exec', at.namespace, '/usr/bin/python3', '-c', script, ...args]
  const child = spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const stop = (): void => void child.kill('SIGKILL')
  try {
    await waitFor('the program is up', () => text.startsWith('up\n'))
  } catch (err) {
    stop()
    throw err
  }
  return { lines: () => text.split('\n'), stop }
}

const FLOOD = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setblocking(False)
sent = 0
print('up', flush=True)
while True:
    for n in range(50):
        # Full: the queue of a neighbour that does not answer counts what it holds as the sender's.
        try: sent += s.sendto(b'x' * (n * 20), (sys.argv[1], 5400)) >= 0
        except BlockingIOError: pass
    time.sleep(0.002)
`

/** Sends datagrams of all sizes from a container to an address, some 20,000 a second, until it is stopped. */
export function startFlood(from: Namespace, address: string): Promise<Background> {
  return background(from, FLOOD, address)
}

const SNIFF = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
print('up', flush=True)
while True:
    frame, (_, _, kind, _, _) = s.recvfrom(65536)
    if frame[12:14] == b'\\x08\\x00' and frame[23] == 17 and frame[36:38] == b'\\x12\\xb5':
        print('sent' if kind == 4 else 'received', flush=True)
`

/** Counts VXLAN that a device sends and receives, as tcpdump(8) hears it. */
export async function startSniffer(
  at: Namespace,
  device: string
): Promise<{ readonly sent: () => number; readonly received: () => number; readonly stop: () => void }> {
  const { lines, stop } = await background(at, SNIFF, device)
  const count = (line: string): number => lines().filter(found => found === line).length
  return { sent: () => count('sent'), received: () => count('received'), stop }
}

const RECEIVE = `
import hashlib, socket, sys
server = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print('up', flush=True)
peer, _ = server.accept()
sums = hashlib.sha256()
while True:
    data = peer.recv(1 << 20)
    if not data: break
    sums.update(data)
peer.sendall(sums.hexdigest().encode())
`
const SEND = `
import hashlib, random, socket, sys
address, port, size, write = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
data = random.Random(7).randbytes(size)
peer = socket.create_connection((address, port), timeout=30)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for at in range(0, size, write): peer.sendall(data[at:at + write])
peer.shutdown(socket.SHUT_WR)
answer = b''
while len(answer) < 64:
    part = peer.recv(64)
    if not part: break
    answer += part
print(answer.decode() == hashlib.sha256(data).hexdigest())
`

/** Sends bytes over one TCP connection, in writes of a size. @returns whether the other end received exactly them */
export async function transfer(p: {
  readonly from: Namespace
  readonly to: Namespace
  /** Where the sender connects to. */
  readonly address: string
  readonly bytes: number
  readonly writeBytes: number
}): Promise<boolean> {
  const receiver = await background(p.to, RECEIVE, PORT)
  try {
    const answer = await python(p.from, SEND, p.address, PORT, `${p.bytes}`, `${p.writeBytes}`)
    return answer.trim() === 'True'
  } finally {
    receiver.stop()
  }
}

const OFFLOADS = `
import array, fcntl, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for command in (0x17, 0x1f, 0x22, 0x24):
    value = array.array('B', struct.pack('II', command, 0))
    request = struct.pack('16sP', sys.argv[1].encode(), value.buffer_info()[0])
    try: fcntl.ioctl(s, 0x8946, request)
    except OSError as e: print(command, e)
`

/** Switches checksums and segmentation by a device off (SIOCETHTOOL): what it sends is complete. */
export async function noOffloads(at: Namespace, device: string): Promise<void> {
  await python(at, OFFLOADS, device)
}
