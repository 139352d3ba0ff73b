// A container of the lab: a network namespace without any interface until an agent attaches one.

import type { RunResult } from '#platform/process.ts'
import { ipJson, must } from './kernel.ts'
import { startPing, type PingOptions, type PingResult, type RunningPing } from './ping.ts'
import { run } from './run.ts'

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

  /** What `ip -j addr` prints about an interface: MTU, MAC, addresses with prefix lengths, without link-local ones. */
  async link(
    ifname = 'eth0'
  ): Promise<{ readonly mtu: number; readonly mac: string; readonly addresses: string[] } | null> {
    const rows = await ipJson(this.namespace, 'addr', 'show')
    const row = rows.find(r => r['ifname'] === ifname)
    if (row === undefined) return null
    const infos = row['addr_info'] as { scope: string; local: string; prefixlen: number }[]
    return {
      mtu: Number(row['mtu']),
      mac: String(row['address']),
      addresses: infos.filter(i => i.scope === 'global').map(i => `${i.local}/${i.prefixlen}`)
    }
  }

  /** The gateways of the default routes, IPv4 first. */
  async defaultGateways(): Promise<readonly string[]> {
    const routes = ['-4', '-6'].map(family => ipJson(this.namespace, family, 'route', 'show', 'default'))
    return (await Promise.all(routes)).flat().map(row => String(row['gateway']))
  }

  async remove(): Promise<void> {
    await must('ip', ['netns', 'del', this.namespace])
  }
}

/** An address without its prefix length. */
export function bare(address: string): string {
  return address.split('/')[0] ?? address
}
