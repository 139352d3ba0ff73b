// Probes of another host: a connection per port, a few pings, a few packets into the tunnel. Each probe is bounded in time
// and leaves nothing behind.

import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { familyOf, formatIp, isIpv4, type Family, type Ip } from '#model/ip.ts'
import type { Vni } from '#model/ids.ts'
import { asVxmeshError } from '#model/errors.ts'
import { formatSocketAddress } from '#model/socket-address.ts'
import type { Clock } from '#platform/clock.ts'
import { run } from '#platform/process.ts'
import type { PathFacts, PortFacts } from './facts.ts'

const CONNECT_MS = 1_000
/** IP and ICMP headers. */
const PING_HEADER_BYTES: Readonly<Record<Family, number>> = { ipv4: 28, ipv6: 48 }
/** Every host must accept a packet of this size (RFC 791 section 3.1, RFC 8200 section 5). */
const SMALL_BYTES: Readonly<Record<Family, number>> = { ipv4: 576, ipv6: 1_280 }
/** Sizes tried in parallel between one that passes and one that fails. */
const SIZES = 6
const PROBE_PACKETS = 20
const ARRIVE_MS = 100

/** Opens a TCP connection and closes it at once. */
export function probePort(what: string, from: Ip, to: { address: Ip; port: number }): Promise<PortFacts> {
  const address = formatSocketAddress(to)
  return new Promise(resolve => {
    const done = (trouble: string | null): void => {
      socket.destroy()
      resolve({ what, address, trouble })
    }
    const socket = connect({ host: formatIp(to.address), port: to.port, localAddress: formatIp(from) })
    socket.setTimeout(CONNECT_MS, () => done('no answer'))
    socket.once('connect', () => done(null))
    socket.once('error', (err: NodeJS.ErrnoException) => done(err.code ?? err.message))
  })
}

/** Finds the largest IP packet, up to `wanted` bytes, that reaches `to` unfragmented. Takes 3 s at most. */
export async function probePath(from: Ip, to: Ip, wanted: number): Promise<PathFacts> {
  try {
    const least = SMALL_BYTES[familyOf(to)]
    const [whole, small] = await Promise.all([pings(from, to, wanted), pings(from, to, least)])
    if (whole) return { wanted, passes: wanted }
    if (!small) return { wanted, passes: 0 }
    let [passes, fails] = [least, wanted]
    while (fails - passes > 1) {
      const step = (fails - passes) / (SIZES + 1)
      const sizes = Array.from({ length: SIZES }, (_, i) => Math.round(passes + step * (i + 1)))
      const between = [...new Set(sizes)].filter(size => size > passes && size < fails)
      const passed = await Promise.all(between.map(size => pings(from, to, size)))
      passes = Math.max(passes, ...between.filter((_, i) => passed[i] === true))
      fails = Math.min(fails, ...between.filter((size, i) => passed[i] !== true && size > passes))
    }
    return { wanted, passes }
  } catch (thrown) {
    if (asVxmeshError(thrown).message.includes('ENOENT')) return { wanted, passes: null }
    return { wanted, passes: 0 }
  }
}

/** @throws ERR_INTERNAL if ping is not installed */
async function pings(from: Ip, to: Ip, bytes: number): Promise<boolean> {
  const size = `${bytes - PING_HEADER_BYTES[familyOf(to)]}`
  const bounds = ['-n', '-q', '-c', '2', '-i', '0.2', '-W', '0.4']
  const argv = [...bounds, '-M', 'do', '-s', size, '-I', formatIp(from), formatIp(to)]
  return (await run('ping', argv, { timeoutMs: 2_000 })).exitCode === 0
}

/**
 * Sends VXLAN packets whose inner frame no bridge accepts: its source is not a valid MAC, so it is neither learnt nor
 * forwarded. The VXLAN device at the other end counts it nevertheless.
 * @returns how many were sent, after the time in which they arrive; 0 if none could be
 */
export async function probeTunnel(p: { from: Ip; to: Ip; port: number; vni: Vni; clock: Clock }): Promise<number> {
  const packet = Buffer.alloc(8 + 60)
  packet[0] = 0x08
  packet.writeUInt32BE(p.vni * 256, 4)
  // Destination: bridge group address. Source: zero. EtherType: local experimental (IEEE 802).
  packet.write('0180c200000f00000000000088b5', 8, 'hex')
  const socket = createSocket(isIpv4(p.from) ? 'udp4' : 'udp6')
  socket.on('error', () => undefined)
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind({ address: formatIp(p.from) }, resolve)
    })
    for (let n = 0; n < PROBE_PACKETS; n++) socket.send(packet, p.port, formatIp(p.to), () => undefined)
    await p.clock.sleep(ARRIVE_MS)
    return PROBE_PACKETS
  } catch {
    return 0
  } finally {
    socket.close()
  }
}
