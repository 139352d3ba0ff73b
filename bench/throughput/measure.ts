// Measures one path: TCP, packets, and requests with their latency, each for a second.

import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { familyOf, parseIp, type Family } from '#model/ip.ts'
import { startDetached, type ChildHandle } from '#platform/process.ts'
import { must } from '../../test/lab/kernel.ts'
import { waitFor } from '../../test/lab/wait.ts'
import type { End, Path } from './form.ts'
import { isOpen, readBusyNs, readReceived, tcpBits, type Protocol, type Received } from './proc.ts'

/** How long each figure is measured. */
export const MEASURED_MS = 1_000
/** For TCP's window to grow, and for the start of the processes not to be counted. */
const WARM_UP_MS = 200
/** iperf3 is ended long before; the bound is for a bench that is killed. */
const IPERF3_SECONDS = 30
/** More than iperf3's own handshake takes. */
const FLOWING_PACKETS = 200
export const PORT = '5201'
/**
 * Processors of the ends of TCP, which share one only where there is one: whether the scheduler puts them together differs from run to
 * run by more than what is measured.
 */
const [SENDER, RECEIVER] = ['0', availableParallelism() > 1 ? '1' : '0']

export const FIGURES = [
  'tcp1BitsPerSecond',
  'tcp4BitsPerSecond',
  'packetsPerSecond',
  'requestsPerSecond',
  'p50Us',
  'p99Us',
  'cpuPerGbit',
  'cpuNsPerPacket'
] as const

export type Measured = Readonly<Record<(typeof FIGURES)[number], number>>

/** Where logs go, and the programs of ping-pong.c and packets.c. */
export type Tools = { readonly dir: string; readonly pingPong: string; readonly packets: string }

/** What both ends print. */
function logFile({ dir }: Tools): string {
  return join(dir, 'throughput.log')
}

/** Compiles what is measured with. @param dir goes away with the lab */
export async function makeTools(dir: string): Promise<Tools> {
  return { dir, pingPong: await compiled(dir, 'ping-pong'), packets: await compiled(dir, 'packets') }
}

async function compiled(dir: string, name: string): Promise<string> {
  const program = join(dir, name)
  const flags = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Werror']
  await must('gcc', [...flags, '-o', program, join(import.meta.dirname, `${name}.c`)], { timeoutMs: 60_000 })
  return program
}

/** Payload of one TCP connection that arrives. */
export async function measureTcp(tools: Tools, path: Path): Promise<Pick<Measured, 'tcp1BitsPerSecond'>> {
  const { received, seconds } = await window(tools, path, tcpLoad(path, 1))
  return { tcp1BitsPerSecond: tcpBits(received, familyOfEnd(path.to)) / seconds }
}

/** `cpuPerGbit` is in processor seconds (ns a bit); both CPU figures are of the whole machine, both ends included. */
export async function measurePath(tools: Tools, path: Path): Promise<Measured> {
  const tcp1 = await window(tools, path, tcpLoad(path, 1))
  const tcp4 = await window(tools, path, tcpLoad(path, 4))
  const udp = await window(tools, path, {
    server: [tools.packets, 'hold', path.to.address, PORT],
    protocol: 'udp',
    client: [tools.packets, 'send', ...asked(path)]
  })
  const family = familyOfEnd(path.to)
  const bitsOf = ({ received }: Window): number => tcpBits(received, family)
  return {
    tcp1BitsPerSecond: bitsOf(tcp1) / tcp1.seconds,
    tcp4BitsPerSecond: bitsOf(tcp4) / tcp4.seconds,
    packetsPerSecond: udp.received.packets / udp.seconds,
    ...(await requests(tools, path)),
    cpuPerGbit: tcp1.busyNs / bitsOf(tcp1),
    cpuNsPerPacket: udp.busyNs / udp.received.packets
  }
}

/** The programs of both ends. */
type Load = { readonly server: readonly string[]; readonly protocol: Protocol; readonly client: readonly string[] }

function tcpLoad(path: Path, streams: number): Load {
  const family = familyOfEnd(path.to) === 'ipv4' ? '-4' : '-6'
  const [address, port] = asked(path)
  return {
    server: ['iperf3', '-s', '-1', '-A', RECEIVER, family, '-p', PORT],
    protocol: 'tcp',
    client: ['iperf3', '-c', address, '-A', SENDER, family, '-p', port, '-t', `${IPERF3_SECONDS}`, '-P', `${streams}`]
  }
}

/** Where the client sends to. */
function asked({ to, by }: Path): readonly [address: string, port: string] {
  return by === undefined ? [to.address, PORT] : [by.address, `${by.port}`]
}

type Window = { readonly seconds: number; readonly busyNs: number; readonly received: Received }

/** What happens between two moments of a load, counted where its packets arrive, whether or not they are read. */
async function window(tools: Tools, { from, to }: Path, load: Load): Promise<Window> {
  return withServer(tools, { at: to, command: load.server, protocol: load.protocol }, async server => {
    const family = familyOfEnd(to)
    const before = readReceived(server.pid, family)
    const client = await start(tools, from, load.client)
    try {
      const isFlowing = (): boolean => readReceived(server.pid, family).packets - before.packets > FLOWING_PACKETS
      await waitFor(`${load.client[0] ?? ''} sends`, isFlowing, {
        everyMs: 5,
        explain: () => readFileSync(logFile(tools), 'utf8').slice(-500)
      })
      await pause(WARM_UP_MS)
      const since = moment(server.pid, family)
      await pause(MEASURED_MS)
      return difference(since, moment(server.pid, family))
    } finally {
      await end(client)
    }
  })
}

type Moment = { readonly atMs: number; readonly busyNs: number; readonly received: Received }

function moment(pid: number, family: Family): Moment {
  return { atMs: performance.now(), busyNs: readBusyNs(), received: readReceived(pid, family) }
}

function difference(from: Moment, to: Moment): Window {
  return {
    seconds: (to.atMs - from.atMs) / 1_000,
    busyNs: to.busyNs - from.busyNs,
    received: {
      packets: to.received.packets - from.received.packets,
      octets: to.received.octets - from.received.octets
    }
  }
}

type Requests = Pick<Measured, 'requestsPerSecond' | 'p50Us' | 'p99Us'>

/** One byte there and one back over TCP, one request at a time. */
export async function requests(tools: Tools, path: Path): Promise<Requests> {
  const { from, to } = path
  return withServer(
    tools,
    { at: to, command: [tools.pingPong, 'serve', to.address, PORT], protocol: 'tcp' },
    async () => {
      const times = [`${WARM_UP_MS}`, `${MEASURED_MS}`]
      const args = ['netns', 'exec', from.namespace, tools.pingPong, 'ask', ...asked(path), ...times]
      return JSON.parse(await must('ip', args)) as Requests
    }
  )
}

/** Runs `work` while a server listens on the port at one end. */
async function withServer<T>(
  tools: Tools,
  p: { readonly at: End; readonly command: readonly string[]; readonly protocol: Protocol },
  work: (server: ChildHandle) => Promise<T>
): Promise<T> {
  const server = await start(tools, p.at, p.command)
  try {
    await waitFor(`${p.command[0] ?? ''} listens`, () => isOpen(server.pid, p.protocol, PORT), { everyMs: 5 })
    return await work(server)
  } finally {
    await end(server)
  }
}

function familyOfEnd({ address }: End): Family {
  return familyOf(parseIp(address))
}

/** `ip netns exec` becomes the program, so that the pid is the program's. */
function start(tools: Tools, at: End, command: readonly string[]): Promise<ChildHandle> {
  return startDetached('ip', ['netns', 'exec', at.namespace, ...command], { logFile: logFile(tools) })
}

async function end(process: ChildHandle): Promise<void> {
  process.kill('SIGKILL')
  await process.exited
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
