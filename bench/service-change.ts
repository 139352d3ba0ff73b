// How soon every client's kernel has a change of a service's backends: from the acknowledgement that an endpoint lost or got a label until the
// tables of the programs on all hosts have it, at 1,000 services of 20 backends in 50 networks with containers on each of 6 hosts. The limit
// is the latency of the same change for its own caller. `balanceWorstPercent`: how far a backend's part of a table is off at most. `cpuMsOfAChange`:
// the processor time of all agents together.
//   npm run -s bench -- service-change [--hosts N] [--networks N] [--services N] [--backends N] [--changes N]

import { setTimeout as after } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { parseIp } from '#model/ip.ts'
import type { NetworkView, ServiceView } from '#model/views.ts'
import { closeDatapath } from '#overlay/bpf/datapath.ts'
import type { BpfMap } from '#overlay/bpf/map.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import { PROTOCOLS, SERVICE_KEY_BYTES, writeMapped } from '#overlay/plan/programs/service-entries.ts'
import type { LabContainer } from '../test/lab/container.ts'
import type { LabHost } from '../test/lab/host.ts'
import { Lab } from '../test/lab/lab.ts'
import { waitFor } from '../test/lab/wait.ts'
import { cpuMicros } from './drivers/cpu.ts'
import { quantile, rounded, say, type Report } from './report.ts'

const SERVERS = 3
const PORT = 80
const AT_ONCE = 16
const PAUSE_MS = 50
/** The resolution of the figures. */
const POLL_MS = 1
const BUILD_MS = 600_000
/** In a service's value: the number of slots, and where they begin (service-entries.ts). */
const CHOICES_AT = 4

type Sizes = Readonly<Record<'hosts' | 'networks' | 'services' | 'backends' | 'changes', number>>
type Backend = { readonly host: LabHost; readonly container: LabContainer }
/** A service of one port, with its key in the tables. */
type Made = { readonly label: string; readonly key: Uint8Array; readonly backends: readonly Backend[] }

export async function bench(args: readonly string[]): Promise<Report> {
  const sizes = sizesOf(args)
  const lab = await Lab.create()
  const tables: BpfMap[] = []
  const opened: ReturnType<typeof openDatapath>[] = []
  try {
    await lab.addServers(SERVERS, { clients: sizes.hosts - SERVERS })
    const services = await build(lab, sizes)
    for (const host of lab.hosts) {
      const datapath = openDatapath(host.netns)
      opened.push(datapath)
      const table = datapath.maps.get('vxm_services')
      if (table === undefined) throw new Error('no table of services')
      tables.push(table)
    }
    await waitFor(
      'every kernel has every service',
      () => services.every(({ key }) => isEverywhere(tables, key, sizes)),
      {
        timeoutMs: BUILD_MS
      }
    )
    const worst = Math.max(...services.map(({ key }) => imbalance(tables[0]?.get(key), sizes.backends)))
    say(`service-change: ${services.length} services on ${tables.length} hosts`)
    const cpu = (): number => lab.hosts.reduce((sum, host) => sum + cpuMicros(host.agentPid), 0)
    const before = cpu()
    const { acknowledged, seen } = await change(services, tables, sizes.changes)
    const cpuMsOfAChange = (cpu() - before) / 1_000 / sizes.changes
    return {
      ours: { changeP50Ms: quantile(seen, 0.5), changeP99Ms: quantile(seen, 0.99), changeWorstMs: Math.max(...seen) },
      limit: { changeP50Ms: quantile(acknowledged, 0.5), changeP99Ms: quantile(acknowledged, 0.99) },
      facts: {
        ...sizes,
        services: services.length,
        balanceWorstPercent: rounded(worst),
        cpuMsOfAChange: rounded(cpuMsOfAChange)
      }
    }
  } finally {
    for (const datapath of opened) closeDatapath(datapath)
    await lab.destroy()
  }
}

function sizesOf(args: readonly string[]): Sizes {
  const { values } = parseArgs({
    args: [...args],
    options: {
      hosts: { type: 'string', default: '6' },
      networks: { type: 'string', default: '50' },
      services: { type: 'string', default: '20' },
      backends: { type: 'string', default: '20' },
      changes: { type: 'string', default: '300' }
    }
  })
  return {
    hosts: Number(values.hosts),
    networks: Number(values.networks),
    services: Number(values.services),
    backends: Number(values.backends),
    changes: Number(values.changes)
  }
}

/** Networks in which each container is a backend of each service, by a label for each. */
async function build(lab: Lab, { networks, services, backends }: Sizes): Promise<readonly Made[]> {
  const first = lab.host(1)
  const names = Array.from({ length: networks }, (_, n) => `n${n}`)
  const labels = Array.from({ length: services }, (_, n) => `s${n}`)
  const made: Made[] = []
  const chosen = Object.fromEntries(labels.map(label => [label, 'yes']))
  for (const name of names) {
    const network = { name, subnet: '10.1.0.0/24', egress: false }
    const { vni } = (await first.api.call('POST', '/v1/networks', network)) as NetworkView
    const containers = await lab.containers(Array.from({ length: backends }, (_, n) => `${name}-${n}`))
    const at = (n: number): LabHost => lab.host((n % lab.hosts.length) + 1)
    await waitFor('every host knows the network', async () => {
      const known = await Promise.all(lab.hosts.map(host => host.api.call('GET', `/v1/networks/${name}`)))
      return known.length === lab.hosts.length
    })
    const all = containers.map((container, n) => ({ host: at(n), container }))
    await each(all, ({ host, container }) => host.attach(container, name, { labels: chosen }))
    await each(labels, async label => {
      const service = { network: name, name: label, ports: [`${PORT}`], select: [`${label}=yes`] }
      const { addresses } = (await first.api.call('POST', '/v1/services', service)) as ServiceView
      made.push({ label, key: keyOf(vni, addresses[0] ?? ''), backends: all })
    })
    say(`service-change: network ${name}`)
  }
  return made
}

/** A backend at a time leaves its service, or comes back. @returns ms until the acknowledgement, and from it until every host has it */
async function change(
  services: readonly Made[],
  tables: readonly BpfMap[],
  changes: number
): Promise<{ readonly acknowledged: number[]; readonly seen: number[] }> {
  const [acknowledged, seen]: [number[], number[]] = [[], []]
  for (let n = 0; n < changes; n++) {
    // Each service twice running, so that it is whole again.
    const service = services[((n >> 1) * 7) % services.length]
    const backend = service?.backends[(n >> 1) % service.backends.length]
    if (service === undefined || backend === undefined) throw new Error('no service')
    const before = tables.map(table => text(table.get(service.key)))
    const body = { labels: { [service.label]: n % 2 === 0 ? null : 'yes' } }
    const since = performance.now()
    await backend.host.api.call('PATCH', `/v1/endpoints/${backend.container.name}`, body)
    const at = performance.now()
    const has = (table: BpfMap, i: number): boolean => text(table.get(service.key)) !== before[i]
    while (!tables.every(has)) {
      if (performance.now() - at > BUILD_MS) throw new Error('a host has not got the change')
      await after(POLL_MS)
    }
    acknowledged.push(at - since)
    seen.push(performance.now() - at)
    await after(PAUSE_MS)
  }
  return { acknowledged, seen }
}

function keyOf(vni: number, address: string): Uint8Array {
  const key = new Uint8Array(SERVICE_KEY_BYTES)
  const view = new DataView(key.buffer)
  view.setUint32(0, vni, true)
  writeMapped(key, 4, parseIp(address))
  view.setUint16(20, PORT)
  view.setUint8(22, PROTOCOLS.tcp)
  return key
}

function isEverywhere(tables: readonly BpfMap[], key: Uint8Array, { backends }: Sizes): boolean {
  return tables.every(table => partsOf(table.get(key)).size === backends)
}

/** How many slots of a table each backend has, by its place. */
function partsOf(value: Uint8Array | null | undefined): ReadonlyMap<number, number> {
  const parts = new Map<number, number>()
  if (value === null || value === undefined) return parts
  const slots = new DataView(value.buffer, value.byteOffset).getUint16(0, true)
  for (const place of value.subarray(CHOICES_AT, CHOICES_AT + slots)) parts.set(place, (parts.get(place) ?? 0) + 1)
  return parts
}

/** In percent of what each would have if all had as many. */
function imbalance(value: Uint8Array | null | undefined, backends: number): number {
  const parts = [...partsOf(value).values()]
  const even = parts.reduce((sum, part) => sum + part, 0) / backends
  return Math.max(...parts.map(part => (Math.abs(part - even) / even) * 100))
}

function text(value: Uint8Array | null): string {
  return value === null ? '' : Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1')
}

async function each<T>(all: readonly T[], work: (one: T) => Promise<unknown>): Promise<void> {
  const left = [...all]
  const lane = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
}
