// Thirty real agents on one machine, each with its Serf, in a namespace of its own: they converge, change many networks, lose a
// third of themselves by SIGKILL, go on, and converge again when those come back. Prints how long each step took, and the
// memory of an agent and of its Serf.
//   npm run -s bench -- thirty [--agents N] [--networks N]

import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { LabHost } from '../test/lab/host.ts'
import { Lab } from '../test/lab/lab.ts'
import { waitFor } from '../test/lab/wait.ts'
import { cpuMicros } from './drivers/cpu.ts'
import { median, say, type Report } from './report.ts'

const SERVERS = 5
/** Started together: more would only wait for each other's processor. */
const BATCH = 6
const CONCURRENCY = 32
/** What an agent and its Serf may take before the run is refused. */
const MIB_AN_AGENT = 250
const STEP_MS = 300_000
const IDLE_MS = 10_000

export async function bench(args: readonly string[]): Promise<Report> {
  const options = { agents: { type: 'string', default: '30' }, networks: { type: 'string', default: '1000' } } as const
  const { values } = parseArgs({ args: [...args], options })
  const [agents, networks] = [Number(values.agents), Number(values.networks)]
  const availableMib = Number(/^MemAvailable: +(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) / 1_024
  if (availableMib < agents * MIB_AN_AGENT) {
    throw new Error(`${agents} agents need ${agents * MIB_AN_AGENT} MiB, and ${Math.round(availableMib)} are available`)
  }
  const lab = await Lab.create()
  const seconds: Record<string, number> = {}
  const step = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    const since = performance.now()
    await work()
    seconds[name] = (performance.now() - since) / 1_000
    say(`${name}: ${seconds[name].toFixed(1)} s`)
  }
  try {
    const servers = Math.min(SERVERS, agents)
    const join = Array.from({ length: Math.min(3, servers) }, (_, n) => `192.0.2.${n + 1}`)
    const settings = { logLevel: 'warn', join }
    for (let n = 0; n < agents; n++) {
      await lab.addHost(n < servers ? { ...settings, bootstrapExpect: servers } : { ...settings, role: 'client' })
    }
    const { hosts } = lab
    await step('start', () => start(hosts))
    await step('converge', () => converged(hosts, hosts))
    const memory = { idle: memoryOf(hosts), idleCpuPercent: await idleCpu(hosts) }
    const [first, last] = [hosts[0], hosts.at(-1)]
    if (first === undefined || last === undefined) throw new Error('no hosts')
    const path = (n: number): string => `/v1/networks/n${n}`
    await step('create', () =>
      each(networks, n => last.api.call('POST', '/v1/networks', { name: `n${n}`, subnet: '10.0.0.0/24' }))
    )
    await step('change', () => each(networks, n => last.api.call('PATCH', path(n), { egressRate: 1_000_000 })))
    await step('converge on the changes', () => converged(hosts, hosts))
    // Two servers of five, and clients.
    const killed = hosts.filter((_, n) => n % 3 === 1)
    const left = hosts.filter(host => !killed.includes(host))
    await step('kill a third', () => Promise.all(killed.map(host => host.killHost())))
    await step('first change after the kill', () =>
      waitFor('a change is made', async () => first.api.call('PATCH', path(0), { egressRate: 2_000_000 }), {
        timeoutMs: STEP_MS
      })
    )
    await step('the others converge', () => converged(left, left))
    await step('change while a third is away', () =>
      each(networks, n => first.api.call('PATCH', path(n), { egressRate: 3_000_000 }))
    )
    await step('the third comes back', async () => {
      for (const host of killed) await host.linkUp()
      await start(killed)
    })
    await step('converge again', () => converged(hosts, hosts))
    const facts = { agents, networks, seconds, mibAnAgent: memory.idle, mibAtTheEnd: memoryOf(hosts) }
    return {
      ours: {
        convergeSeconds: (seconds['start'] ?? 0) + (seconds['converge'] ?? 0),
        convergeAgainSeconds: (seconds['the third comes back'] ?? 0) + (seconds['converge again'] ?? 0),
        changesPerSecond: networks / (seconds['change'] ?? Infinity),
        agentMib: memory.idle.agent,
        serfMib: memory.idle.serf,
        idleCpuPercent: memory.idleCpuPercent
      },
      facts
    }
  } finally {
    await lab.destroy()
  }
}

async function start(hosts: readonly LabHost[]): Promise<void> {
  for (let n = 0; n < hosts.length; n += BATCH) {
    const batch = hosts.slice(n, n + BATCH)
    await Promise.all(batch.map(host => host.startAgent()))
    // The founders need each other.
    if (n > 0) await Promise.all(batch.map(host => host.waitReady(STEP_MS)))
  }
  await Promise.all(hosts.map(host => host.waitReady(STEP_MS)))
}

/** Each of them lists these as alive, and all have the same state. */
async function converged(hosts: readonly LabHost[], alive: readonly LabHost[]): Promise<void> {
  await waitFor(
    'all are converged',
    async () => {
      const all = await Promise.all(hosts.map(host => host.status()))
      const digests = new Set(all.map(({ digest }) => digest))
      const isWhole = all.every(
        ({ ready, differsAt, members }) => ready && differsAt === null && members.alive === alive.length
      )
      return isWhole && digests.size === 1
    },
    { timeoutMs: STEP_MS, everyMs: 250 }
  )
}

/** Runs `work` for the numbers from 0, many at once. */
async function each(count: number, work: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, lane))
}

/** Median resident and proportional MiB of an agent and of its Serf. */
function memoryOf(hosts: readonly LabHost[]): Record<'agent' | 'agentPss' | 'serf', number> {
  const mib = (pid: number | null, field: 'Rss' | 'Pss'): number => {
    const text = readFileSync(`/proc/${pid ?? 0}/smaps_rollup`, 'utf8')
    return Number(new RegExp(`^${field}: +(\\d+)`, 'm').exec(text)?.[1]) / 1_024
  }
  return {
    agent: Math.round(median(hosts.map(host => mib(host.agentPid, 'Rss')))),
    agentPss: Math.round(median(hosts.map(host => mib(host.agentPid, 'Pss')))),
    serf: Math.round(median(hosts.map(host => mib(host.serfPid, 'Rss'))))
  }
}

/** Median percent of a core that an agent takes while nothing happens. */
async function idleCpu(hosts: readonly LabHost[]): Promise<number> {
  const before = hosts.map(host => cpuMicros(host.agentPid))
  await new Promise(resolve => setTimeout(resolve, IDLE_MS))
  return median(hosts.map((host, n) => (cpuMicros(host.agentPid) - (before[n] ?? 0)) / (10 * IDLE_MS)))
}
