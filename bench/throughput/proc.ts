// What the kernel counts in /proc: processor time of the whole machine, and packets that reached a network namespace.

import { readFileSync } from 'node:fs'
import type { Family } from '#model/ip.ts'

/** USER_HZ, the unit of /proc/stat, is 100 on every architecture that Node runs on. */
const NS_A_TICK = 1e7
/** Columns of /proc/stat (proc(5)) that are work: not idle, iowait and steal; guest time is part of user time. */
const BUSY_COLUMNS = ['user', 'nice', 'system', 'irq', 'softirq'] as const
const COLUMNS = ['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'] as const

/** Headers of IP and of TCP with timestamps. */
const TCP_HEADERS_BYTES: Readonly<Record<Family, number>> = { ipv4: 20 + 32, ipv6: 40 + 32 }
export type Protocol = 'tcp' | 'udp'

/** State of a socket that takes what comes, in /proc/net/tcp and udp: TCP_LISTEN, and what an unconnected one has. */
const OPEN: Readonly<Record<Protocol, string>> = { tcp: '0A', udp: '07' }

/** Processor time of all processes and interrupts since boot, ns; the resolution is 10 ms. */
export function readBusyNs(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n')
  const ticks = line.split(/\s+/).slice(1).map(Number)
  return BUSY_COLUMNS.reduce((sum, name) => sum + (ticks[COLUMNS.indexOf(name)] ?? 0), 0) * NS_A_TICK
}

/** What IP has received, whatever device or program brought it. A packet that GRO or GSO has merged is one. */
export type Received = { readonly packets: number; readonly octets: number }

/** In the network namespace of a process. Counters of devices would not do: redirected packets skip some of them. */
export function readReceived(pid: number, family: Family): Received {
  if (family === 'ipv6') {
    return { packets: counter6(pid, 'Ip6InReceives'), octets: counter6(pid, 'Ip6InOctets') }
  }
  return {
    packets: counter(pid, { file: 'snmp', group: 'Ip', name: 'InReceives' }),
    octets: counter(pid, { file: 'netstat', group: 'IpExt', name: 'InOctets' })
  }
}

/** Payload of TCP in these packets, bits. */
export function tcpBits({ packets, octets }: Received, family: Family): number {
  return (octets - packets * TCP_HEADERS_BYTES[family]) * 8
}

/** Whether a socket takes what comes to a port in the network namespace of a process, by IPv4, or by IPv6 or both. */
export function isOpen(pid: number, protocol: Protocol, port: string): boolean {
  return [protocol, `${protocol}6`].some(table => isOpenIn(pid, { table, protocol, port }))
}

function isOpenIn(
  pid: number,
  { table, protocol, port }: { readonly table: string; readonly protocol: Protocol; readonly port: string }
): boolean {
  const suffix = `:${Number(port).toString(16).toUpperCase().padStart(4, '0')}`
  return readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
    .split('\n')
    .map(row => row.trim().split(/\s+/))
    .some(([, local, , state]) => local?.endsWith(suffix) === true && state === OPEN[protocol])
}

/** One line for each. @throws Error when the kernel has no such counter */
function counter6(pid: number, name: string): number {
  const value = new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/net/snmp6`, 'utf8'))?.[1]
  if (value === undefined) throw new Error(`no ${name} in /proc/${pid}/net/snmp6`)
  return Number(value)
}

/** A group is two lines: names, then values. @throws Error when the kernel has no such counter */
function counter(pid: number, p: { readonly file: string; readonly group: string; readonly name: string }): number {
  const rows = readFileSync(`/proc/${pid}/net/${p.file}`, 'utf8').split('\n')
  const [names = [], values = []] = rows.filter(row => row.startsWith(`${p.group}:`)).map(row => row.split(' '))
  const value = values[names.indexOf(p.name)]
  if (value === undefined) throw new Error(`no ${p.group} ${p.name} in /proc/${pid}/net/${p.file}`)
  return Number(value)
}
