// iperf3 traffic between containers, measured with the kernel's interface counters over exact intervals.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { readLink } from '#overlay/kernel/kernel.ts'
import type { LinkCounters } from '#overlay/netlink/link-info.ts'
import { decodeStats, getStats } from '#overlay/netlink/stats.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { LabContainer } from './container.ts'
import { OVERLAY_MTU } from './family.ts'
import { waitFor } from './wait.ts'
import { run } from './run.ts'

export type Protocol = 'tcp' | 'udp'

export type TrafficRequest = {
  readonly from: LabContainer
  readonly to: LabContainer
  /** The receiver's address. */
  readonly address: string
  readonly protocol: Protocol
  readonly seconds: number
  /** Offered load of UDP, bits/s. */
  readonly offered: number
  readonly port?: number
}

/** iperf3's report at the end. */
export type TrafficResult = {
  readonly end: {
    readonly sum?: { readonly bytes: number; readonly packets: number; readonly lost_packets: number }
    readonly sum_sent?: { readonly bytes: number }
    readonly sum_received?: { readonly bytes: number }
  }
}

const MTU = OVERLAY_MTU
/** Ethernet 14, IPv4 20, TCP 20 with timestamps 12. */
const ETHERNET_BYTES = 14
const TCP_IP_BYTES = 52

export type Traffic = {
  readonly result: Promise<TrafficResult>
  /** Ends it early: `result` then covers the time until now. */
  readonly stop: () => void
}

/** Starts a receiver and a sender; `result` is iperf3's report once both have ended. */
export async function startTraffic(request: TrafficRequest): Promise<Traffic> {
  const { from, to, address, protocol, seconds, offered, port = 5201 } = request
  const timeoutMs = (seconds + 20) * 1_000
  const server = run('ip', ['netns', 'exec', to.namespace, 'iperf3', '-s', '-1', '-p', String(port)], { timeoutMs })
  const hexPort = `:${port.toString(16).toUpperCase()} `
  await waitFor(`iperf3 listens on ${port}`, async () => {
    const found = await to.exec('grep', '-q', hexPort, '/proc/self/net/tcp', '/proc/self/net/tcp6')
    return found.exitCode === 0
  })
  // Long datagrams, which the kernel fragments: the sender must not be the bottleneck.
  const flags = protocol === 'tcp' ? [] : ['-u', '-b', String(offered), '-l', offered > 2e8 ? '16000' : '1400']
  const client = ['iperf3', '-c', address, '-p', String(port), '-t', String(seconds), '-J', ...flags]
  const args = ['netns', 'exec', from.namespace, ...client]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'ignore'], timeout: timeoutMs })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const sent = once(child, 'close')
  return {
    result: Promise.all([sent, server]).then(() => JSON.parse(text) as TrafficResult),
    stop: () => void child.kill('SIGINT')
  }
}

export type Meter = { read(): { readonly atMs: number; readonly counters: LinkCounters }; close(): void }

/** Reads the counters of eth0 in a namespace. */
export function openMeter(netns: string): Meter {
  const socket = NetlinkSocket.open(netns)
  const ifindex = readLink(socket, 'eth0')?.ifindex
  return {
    read() {
      const all = socket.dump(getStats(), (_type, payload) => decodeStats(payload) ?? undefined, 'read counters')
      const own = all.find(stats => stats.ifindex === ifindex)
      if (own === undefined) throw new Error(`no eth0 in ${netns}`)
      return { atMs: performance.now(), counters: own.counters }
    },
    close: () => socket.close()
  }
}

/** Rates of IP packets in bits/s: received by one interface, sent by another. */
export type Flow = { readonly received: number; readonly sent: number }

/** Measures the first second from the first data packet on, and the time after it. */
export async function measureReceived(p: {
  readonly meter: Meter
  readonly sender: Meter
  readonly protocol: Protocol
  readonly steadyMs: number
}): Promise<{ readonly firstSecond: Flow; readonly steady: Flow }> {
  const before = p.meter.read()
  type Moment = { readonly rx: ReturnType<Meter['read']>; readonly tx: ReturnType<Meter['read']> }
  const moment = (): Moment => ({ rx: p.meter.read(), tx: p.sender.read() })
  const start = await waitFor(
    'data arrives',
    () => {
      const now = moment()
      // iperf3's own handshake is smaller.
      return now.rx.counters.rxBytes - before.counters.rxBytes > 6_000 ? now : false
    },
    { everyMs: 2 }
  )
  await pause(1_000)
  const second = moment()
  await pause(p.steadyMs)
  const end = moment()
  const flow = (from: Moment, to: Moment): Flow => ({
    received: ipRate({ from: from.rx, to: to.rx, protocol: p.protocol, way: 'rx' }),
    sent: ipRate({ from: from.tx, to: to.tx, protocol: p.protocol, way: 'tx' })
  })
  return { firstSecond: flow(start, second), steady: flow(second, end) }
}

/** A TCP GSO packet is counted with one set of headers, although it was sent as several frames. */
export function ipRate(p: {
  readonly from: ReturnType<Meter['read']>
  readonly to: ReturnType<Meter['read']>
  readonly protocol: Protocol
  readonly way: 'rx' | 'tx'
}): number {
  const { from, to, way } = p
  const bytes = to.counters[`${way}Bytes`] - from.counters[`${way}Bytes`]
  const packets = to.counters[`${way}Packets`] - from.counters[`${way}Packets`]
  const payload = bytes - packets * (ETHERNET_BYTES + TCP_IP_BYTES)
  const segments = payload / (MTU - TCP_IP_BYTES)
  const ipBytes = p.protocol === 'udp' ? bytes - packets * ETHERNET_BYTES : payload + segments * TCP_IP_BYTES
  return (ipBytes * 8_000) / (to.atMs - from.atMs)
}
