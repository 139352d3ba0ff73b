// A container of the lab: a network namespace without any interface until an agent attaches one.

import { run, type RunResult } from '#platform/process.ts'
import { ipJson, must } from './kernel.ts'
import { startPing, type PingOptions, type PingResult, type RunningPing } from './ping.ts'

export class LabContainer {
  readonly name: string
  readonly namespace: string

  constructor(name: string, namespace: string) {
    this.name = name
    this.namespace = namespace
  }

  get netns(): string {
    return `/run/netns/${this.namespace}`
  }

  exec(file: string, ...args: readonly string[]): Promise<RunResult> {
    return run('ip', ['netns', 'exec', this.namespace, file, ...args], { timeoutMs: 60_000 })
  }

  ping(address: string, options: PingOptions): Promise<PingResult> {
    return startPing(this.namespace, bare(address), options).result
  }

  startPing(address: string, options: PingOptions): RunningPing {
    return startPing(this.namespace, bare(address), options)
  }

  /** What `ip -j addr` prints about an interface: MTU, MAC, IPv4 addresses with prefix lengths. */
  async link(
    ifname = 'eth0'
  ): Promise<{ readonly mtu: number; readonly mac: string; readonly addresses: string[] } | null> {
    const rows = await ipJson(this.namespace, 'addr', 'show')
    const row = rows.find(r => r['ifname'] === ifname)
    if (row === undefined) return null
    const infos = row['addr_info'] as { family: string; local: string; prefixlen: number }[]
    return {
      mtu: Number(row['mtu']),
      mac: String(row['address']),
      addresses: infos.filter(i => i.family === 'inet').map(i => `${i.local}/${i.prefixlen}`)
    }
  }

  /** The gateway of the default route, or null. */
  async defaultGateway(): Promise<string | null> {
    const rows = await ipJson(this.namespace, 'route', 'show', 'default')
    return rows[0] === undefined ? null : String(rows[0]['gateway'])
  }

  async remove(): Promise<void> {
    await must('ip', ['netns', 'del', this.namespace])
  }
}

/** An address without its prefix length. */
export function bare(address: string): string {
  return address.split('/')[0] ?? address
}
