// How soon every host knows a change: from its acknowledgement until the last of ten agents has applied it, according to each
// agent's event stream. The limit is the latency of the same change for its own caller.
//   npm run -s bench -- propagation [--agents N] [--changes N]

import { parseArgs } from 'node:util'
import type { AgentEvent } from '#model/event.ts'
import type { LabHost } from '../test/lab/host.ts'
import { Lab } from '../test/lab/lab.ts'
import { quantile, say, type Report } from './report.ts'

const SERVERS = 3
const PAUSE_MS = 50

export async function bench(args: readonly string[]): Promise<Report> {
  const options = { agents: { type: 'string', default: '10' }, changes: { type: 'string', default: '200' } } as const
  const { values } = parseArgs({ args: [...args], options })
  const agents = Number(values.agents)
  const lab = await Lab.create()
  try {
    await lab.addServers(SERVERS)
    for (let n = SERVERS; n < agents; n++) await lab.addHost({ role: 'client', join: ['192.0.2.1'], logLevel: 'warn' })
    await Promise.all(lab.hosts.slice(SERVERS).map(host => host.startAgent()))
    await Promise.all(lab.hosts.map(host => host.waitReady()))
    say(`${lab.hosts.length} agents are ready`)
    const watchers = await Promise.all(lab.hosts.map(Watcher.start))
    const [first] = lab.hosts
    if (first === undefined) throw new Error('no host')
    const [acknowledged, spread]: [number[], number[]] = [[], []]
    for (let n = 0; n < Number(values.changes); n++) {
      const name = `n${n}`
      const since = performance.now()
      const seen = watchers.map(watcher => watcher.applied(name))
      await first.api.call('POST', '/v1/networks', { name, subnet: '10.0.0.0/24' })
      const acknowledgedAt = performance.now()
      const lastAt = Math.max(...(await Promise.all(seen)))
      acknowledged.push(acknowledgedAt - since)
      spread.push(Math.max(0, lastAt - acknowledgedAt))
      await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
    }
    const ours = { p50Ms: quantile(spread, 0.5), p99Ms: quantile(spread, 0.99), worstMs: Math.max(...spread) }
    const limit = { p50Ms: quantile(acknowledged, 0.5), p99Ms: quantile(acknowledged, 0.99) }
    return { ours, limit, facts: { agents, changes: spread.length } }
  } finally {
    await lab.destroy()
  }
}

/** Follows one agent's event stream and records when each network was applied. */
class Watcher {
  readonly #waiting = new Map<string, (atMs: number) => void>()

  static async start(this: void, host: LabHost): Promise<Watcher> {
    const watcher = new Watcher()
    const lines = host.api.lines('/v1/events')
    await lines.next()
    // The stream ends with the lab.
    watcher.#follow(lines).catch(() => undefined)
    return watcher
  }

  /** Resolves to the time at which the network of this name was applied. */
  applied(name: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`an agent has not applied ${name}`)), 10_000)
      this.#waiting.set(name, atMs => {
        clearTimeout(timer)
        resolve(atMs)
      })
    })
  }

  async #follow(lines: AsyncGenerator<string>): Promise<void> {
    for await (const line of lines) {
      const event = JSON.parse(line) as AgentEvent
      if (event.kind !== 'network-created') continue
      this.#waiting.get(event.network.name)?.(performance.now())
      this.#waiting.delete(event.network.name)
    }
  }
}
