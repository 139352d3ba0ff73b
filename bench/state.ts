// A million endpoints in one state: memory, time to save and to restore, and the longest stall of the event loop in each;
// compared with the same rows as plain objects in one array, packed by the same library in one call and written to the same
// disk. `dualBytes` is the memory of as many endpoints that have two addresses each.
//   npm run -s bench -- state [--endpoints N]

import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { digestOf } from '#allocator/digest.ts'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, parsePeerId } from '#model/ids.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { formatIp, parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { sectionsOf, writeSnapshotFile } from '#replication/storage/snapshot-reading.ts'
import { applier } from './drivers/state.ts'
import { rounded, say, type Figures, type Report } from './report.ts'

const HOSTS = 50
const PER_NETWORK = 5_000
const CONFIGURATION = { voters: ['a' as PeerId], learners: [] }
const META = { lastIndex: 1 as LogIndex, lastTerm: 1 as Term, configuration: CONFIGURATION }

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({ args: [...args], options: { endpoints: { type: 'string', default: '1000000' } } })
  const endpoints = Number(values.endpoints)
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-bench-'))
  try {
    const dualBytes = memoryOf(() => fill(endpoints, { dual: true })).bytes
    const { made: state, bytes } = memoryOf(() => fill(endpoints, { dual: false }))
    say(`${state.endpointCount} endpoints in ${state.networkCount} networks: ${(bytes / 2 ** 20).toFixed(0)} MiB`)
    const ours = await saveAndRestore(join(dir, 'ours'), state)
    const { made: rows, bytes: rowBytes } = memoryOf(() => plainRows(state))
    const limit = await packAndUnpack(join(dir, 'rows'), rows)
    const facts = {
      ...{ endpoints: state.endpointCount, networks: state.networkCount },
      ...{ dualBytes, dualToSingle: rounded(dualBytes / bytes) }
    }
    return { ours: { bytes, ...ours }, limit: { bytes: rowBytes, ...limit }, facts }
  } finally {
    await rm(dir, { recursive: true })
  }
}

function memoryOf<T>(make: () => T): { readonly made: T; readonly bytes: number } {
  const before = heapBytes()
  const made = make()
  return { made, bytes: heapBytes() - before }
}

function fill(endpoints: number, p: { readonly dual: boolean }): ClusterState {
  const state = new ClusterState()
  const apply = applier(state)
  const hosts = Array.from({ length: HOSTS }, (_, n) =>
    parsePeerId(`12D3KooW${'1'.repeat(40)}${1_111 + n}`.replaceAll('0', 'z'))
  )
  for (const [n, peerId] of hosts.entries()) {
    const facts = { name: parseHostName(`h${n}`), vtep: parseIpv4(`192.0.2.${n + 1}`), bootId: 'b', version: '1.0.0' }
    apply({ kind: 'host-register', host: { ...facts, peerId, role: 'client' } })
  }
  const [subnet, ifname] = [parseSubnet('10.0.0.0/16'), parseIfName('eth0')]
  const subnets = { subnet, ...(p.dual ? { subnet6: parseSubnet('fd00:1::/64') } : {}) }
  const free = { egressRate: 0, mtu: 0, egress: true, hostAccess: false }
  for (let n = 0; n < endpoints; n++) {
    const network = parseNetworkName(`tenant-${Math.floor(n / PER_NETWORK)}`)
    if (n % PER_NETWORK === 0) apply({ kind: 'network-create', name: network, ...subnets, ...free })
    const containerId = parseContainerId(`${n.toString(16).padStart(12, '0')}${'c'.repeat(52)}`)
    // In no order: in turn, the sets of all hosts would grow at the same moment.
    const host = hosts[(Math.imul(n, 2_654_435_761) >>> 8) % HOSTS] ?? hosts[0]
    if (host === undefined) throw new Error('no host')
    const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
    apply({ kind: 'endpoint-attach', network, containerId, ifname, name: `web-${n}`, host, ...unshaped })
  }
  return state
}

function plainRows(state: ClusterState): unknown[] {
  return [...state.endpoints()].map(e => ({ ...e, address: formatIp(e.address) }))
}

/** As a host does it: a file in slices while the state changes, and a state from it beside the one in use. */
async function saveAndRestore(path: string, state: ClusterState): Promise<Figures> {
  const head = { clusterId: 'c' as ClusterId, meta: META }
  const saving = await measured('saved', async () => {
    return writeSnapshotFile(diskFiles, path, { ...head, sections: stateSections(state) })
  })
  const restoring = await measured('restored', () => stateFrom(sectionsOf(diskFiles, path)))
  if (digestOf(restoring.result) !== digestOf(state)) throw new Error('restored another state')
  return {
    snapshotBytes: saving.result.size,
    ...{ saveMs: saving.ms, saveCpuMs: saving.cpuMs, saveStallMs: saving.stallMs, saveSliceMs: saving.sliceMs },
    ...{ saveHeapMiB: saving.heapMiB, restoreMs: restoring.ms, restoreCpuMs: restoring.cpuMs },
    ...{ restoreStallMs: restoring.stallMs, restoreSliceMs: restoring.sliceMs }
  }
}

/** The same rows in one call of the library each way. */
async function packAndUnpack(path: string, rows: unknown): Promise<Figures> {
  const saving = await measured('packed', async () => {
    const bytes = encodeMsgpack(rows)
    const file = await open(path, 'wx')
    await file.writeFile(bytes)
    await file.sync()
    await file.close()
    return bytes.byteLength
  })
  const restoring = await measured('unpacked', async () => decodeMsgpack(await readFile(path)))
  return {
    snapshotBytes: saving.result,
    ...{ saveMs: saving.ms, saveCpuMs: saving.cpuMs, saveStallMs: saving.stallMs },
    ...{ restoreMs: restoring.ms, restoreCpuMs: restoring.cpuMs, restoreStallMs: restoring.stallMs }
  }
}

type Measured<T> = {
  readonly result: T
  readonly ms: number
  /** Of the main thread. */
  readonly cpuMs: number
  /** The longest time between two turns of a 1 ms timer; on a busy machine that is mostly others' time. */
  readonly stallMs: number
  /** The most CPU time of the main thread between two of these turns: what is this program's own. */
  readonly sliceMs: number
  /** The highest heap during the work, over that before it. */
  readonly heapMiB: number
}

async function measured<T>(what: string, work: () => Promise<T>): Promise<Measured<T>> {
  const heapBefore = heapBytes()
  const stalls = new Stalls()
  await stalls.settle()
  const [startedMs, startedCpuMs] = [performance.now(), threadCpuMs()]
  const result = await work()
  const ms = performance.now() - startedMs
  const cpuMs = threadCpuMs() - startedCpuMs
  const { stallMs, sliceMs, heap } = await stalls.end()
  const heapMiB = (heap - heapBefore) / 2 ** 20
  const rounded = [ms, cpuMs, stallMs, sliceMs, heapMiB].map(figure => figure.toFixed(0))
  say(`${what}: ms, CPU ms, longest stall, longest slice of CPU, heap MiB: ${rounded.join(', ')}`)
  return { result, ms, cpuMs, stallMs, sliceMs, heapMiB }
}

/** Measures the longest stall of the event loop. */
class Stalls {
  #last = performance.now()
  #lastCpu = threadCpuMs()
  #longest = 0
  #slice = 0
  #heap = 0
  #turns = 0
  readonly #timer = setInterval(() => this.#turn(), 1)

  /** Starts after one turn of the loop, so that earlier work does not count. */
  async settle(): Promise<void> {
    await new Promise(resolve => setTimeout(resolve, 5))
    this.#longest = 0
    this.#slice = 0
  }

  async end(): Promise<{ readonly stallMs: number; readonly sliceMs: number; readonly heap: number }> {
    await new Promise(resolve => setTimeout(resolve, 5))
    clearInterval(this.#timer)
    return { stallMs: this.#longest, sliceMs: this.#slice, heap: this.#heap }
  }

  #turn(): void {
    const [now, cpu] = [performance.now(), threadCpuMs()]
    this.#longest = Math.max(this.#longest, now - this.#last)
    this.#slice = Math.max(this.#slice, cpu - this.#lastCpu)
    this.#last = now
    this.#lastCpu = cpu
    this.#turns += 1
    if (this.#turns % 50 !== 0) return
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    this.#heap = Math.max(this.#heap, heapUsed + arrayBuffers)
  }
}

function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function heapBytes(): number {
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
