// A million endpoints in one state: memory, time to save and to restore, and the longest stall of the event loop during a
// save; compared with the same rows as plain objects in one array, packed by the same library in one call and written to
// the same disk.
//   npm run -s bench -- state [--endpoints N]

import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { digestOf } from '#allocator/digest.ts'
import { stateBytes } from '#agent/state-bytes.ts'
import { decodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, parsePeerId } from '#model/ids.ts'
import type { LogIndex } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { formatIpv4, parseIpv4 } from '#model/ipv4.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { say, type Figures, type Report } from './report.ts'

const HOSTS = 50
const PER_NETWORK = 5_000

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({ args: [...args], options: { endpoints: { type: 'string', default: '1000000' } } })
  const endpoints = Number(values.endpoints)
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-bench-'))
  try {
    const before = heapBytes()
    const state = fill(endpoints)
    const bytes = heapBytes() - before
    say(`${state.endpointCount} endpoints in ${state.networkCount} networks: ${(bytes / 2 ** 20).toFixed(0)} MiB`)
    const ours = await saveAndRestore(join(dir, 'ours'), () => stateBytes(state), decodeState)
    if (digestOf(ours.restored as ClusterState) !== digestOf(state)) throw new Error('restored another state')
    const beforeRows = heapBytes()
    const rows = plainRows(state)
    const rowBytes = heapBytes() - beforeRows
    const limit = await saveAndRestore(
      join(dir, 'rows'),
      () => Promise.resolve(encodeMsgpack(rows)),
      value => value
    )
    const facts = { endpoints: state.endpointCount, networks: state.networkCount }
    return { ours: { bytes, ...ours.figures }, limit: { bytes: rowBytes, ...limit.figures }, facts }
  } finally {
    await rm(dir, { recursive: true })
  }
}

/** Built with the log's own commands, like the state of a real cluster. */
function fill(endpoints: number): ClusterState {
  const state = new ClusterState()
  let index = 0
  let seq = 0
  const apply = (command: Command): void => {
    index += 1
    const outcome = state.apply(index as LogIndex, { session: 'bench', seq, settledBelow: seq, command })
    if (!outcome.ok) throw new Error(outcome.error.message)
    seq += 1
  }
  apply({ kind: 'session-open' })
  const hosts = Array.from({ length: HOSTS }, (_, n) =>
    parsePeerId(`12D3KooW${'1'.repeat(40)}${1_111 + n}`.replaceAll('0', 'z'))
  )
  for (const [n, peerId] of hosts.entries()) {
    const facts = { name: parseHostName(`h${n}`), vtep: parseIpv4(`192.0.2.${n + 1}`), bootId: 'b', version: '1' }
    apply({ kind: 'host-register', host: { ...facts, peerId, role: 'client' } })
  }
  const [subnet, ifname] = [parseSubnet('10.0.0.0/16'), parseIfName('eth0')]
  const free = { egressRate: 0, mtu: 0, egress: true, hostAccess: false }
  for (let n = 0; n < endpoints; n++) {
    const network = parseNetworkName(`tenant-${Math.floor(n / PER_NETWORK)}`)
    if (n % PER_NETWORK === 0) apply({ kind: 'network-create', name: network, subnet, ...free })
    const containerId = parseContainerId(`${n.toString(16).padStart(12, '0')}${'c'.repeat(52)}`)
    const host = hosts[n % HOSTS] ?? hosts[0]
    if (host === undefined) throw new Error('no host')
    const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
    apply({ kind: 'endpoint-attach', network, containerId, ifname, name: `web-${n}`, host, ...unshaped })
  }
  return state
}

function plainRows(state: ClusterState): unknown[] {
  return [...state.endpoints()].map(e => ({ ...e, address: formatIpv4(e.address) }))
}

async function saveAndRestore(
  path: string,
  encode: () => Promise<Uint8Array>,
  decode: (value: unknown) => unknown
): Promise<{ readonly restored: unknown; readonly figures: Figures }> {
  const stalls = new Stalls()
  const saving = performance.now()
  await stalls.settle()
  const bytes = await encode()
  const encoded = performance.now()
  const file = await open(path, 'wx')
  await file.writeFile(bytes)
  await file.sync()
  await file.close()
  const saveMs = performance.now() - saving
  const maxStallMs = await stalls.end()
  say(
    `encoded in ${(encoded - saving).toFixed(0)} ms, saved in ${saveMs.toFixed(0)} ms, stall ${maxStallMs.toFixed(0)} ms`
  )
  const restoring = performance.now()
  const restored = decode(decodeMsgpack(await readFile(path)))
  return {
    restored,
    figures: { snapshotBytes: bytes.byteLength, saveMs, restoreMs: performance.now() - restoring, maxStallMs }
  }
}

/** Measures the longest stall of the event loop. */
class Stalls {
  #last = performance.now()
  #longest = 0
  readonly #timer = setInterval(() => this.#turn(), 1)

  /** Starts after one turn of the loop, so that earlier work does not count. */
  async settle(): Promise<void> {
    await new Promise(resolve => setTimeout(resolve, 5))
    this.#longest = 0
  }

  async end(): Promise<number> {
    await new Promise(resolve => setTimeout(resolve, 5))
    clearInterval(this.#timer)
    return this.#longest
  }

  #turn(): void {
    const now = performance.now()
    this.#longest = Math.max(this.#longest, now - this.#last)
    this.#last = now
  }
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function heapBytes(): number {
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
