// Pure figures at the size that the design is made for: 10,000 hosts and a million endpoints in 10,000 networks, each on ten
// hosts. What one membership change, one network's pass and one full pass of a host's ten networks take on the event loop
// without the kernel: inputs, desired state, plans. Nothing is written to a kernel or sent.
//   npm run -s bench -- scale [--hosts N] [--local N]

import { parseArgs } from 'node:util'
import { ServiceResolver } from '#allocator/service-resolver.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { endpointPage } from '#agent/observe/pages.ts'
import { DesiredInputs } from '#agent/reconcile/desired-inputs.ts'
import { sharedNetworks, touchedBy, touchedByMember } from '#agent/reconcile/touched.ts'
import { EMPTY_VIEW, patchView, reduceView, type MembershipView } from '#membership/view/view.ts'
import type { Command, Request } from '#model/command.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, parsePeerId } from '#model/ids.ts'
import type { LogIndex, PeerId, Vni } from '#model/ids.ts'
import { formatIp, ipv4Of, parseSubnet, type Ip } from '#model/ip.ts'
import { Guard } from '#overlay/filter/guard.ts'
import { runPart } from '#overlay/pass.ts'
import { filterTables, serfTable } from '#overlay/plan/filter/ruleset.ts'
import { hostRules } from '#overlay/plan/gateway/rules.ts'
import { desired } from '#overlay/plan/network/desired.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { MemoryFilters } from '../test/overlay/filter/memory-filters.ts'
import { applier } from './drivers/state.ts'
import { median, say, type Report } from './report.ts'

const HOSTS_PER_NETWORK = 10
const SUBNET = '10.0.0.0/24'
const TRANSIT = '240.0.0.0/8'
const ROUNDS = 15
/** Passes that are timed together: the kernel counts CPU time in ticks. */
const PASSES = 50
const DIGITS = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

type Round = Readonly<
  Record<
    'memberQueryMs' | 'memberChangeMs' | 'hostChangeMs' | 'networkPassMs' | 'fullPassMs' | 'endpointPageMs',
    number
  >
>

/** The host that everything is measured on, and another that shares nine of its ten networks. */
const [SELF, NEIGHBOUR] = [peerOf(0), 1]

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({
    args: [...args],
    options: { hosts: { type: 'string', default: '10000' }, local: { type: 'string', default: '10' } }
  })
  const [hosts, local] = [Number(values.hosts), Number(values.local)]
  const state = fill(hosts, local)
  const { networkCount: networks, endpointCount: endpoints } = state
  say(`scale: ${hosts} hosts, ${networks} networks, ${endpoints} endpoints`)
  const one = await Host.start(state, hosts)
  const rounds: Round[] = []
  for (let n = 0; n < ROUNDS; n++) rounds.push(await one.round(n))
  one.stop()
  const at = (key: keyof Round): number => median(rounds.map(round => round[key]))
  const [memberChangeMs, hostChangeMs] = [at('memberChangeMs'), at('hostChangeMs')]
  return {
    ours: { memberChangeMs, hostChangeMs, networkPassMs: at('networkPassMs'), fullPassMs: at('fullPassMs') },
    limit: { memberChangeMs: 5, networkPassMs: 2, fullPassMs: 20 },
    facts: {
      hosts,
      networks,
      endpoints,
      sharedNetworks: one.shared,
      memberQueryMs: at('memberQueryMs'),
      endpointPageMs: at('endpointPageMs')
    }
  }
}

class Host {
  readonly #state: ClusterState
  readonly #records: readonly unknown[]
  readonly #inputs: DesiredInputs
  readonly #guards: readonly Guard[]
  readonly #hosts: number
  #view: MembershipView
  #networks: readonly Vni[] = []
  #index = 0

  private constructor(state: ClusterState, hosts: number) {
    this.#state = state
    this.#hosts = hosts
    this.#records = Array.from({ length: hosts }, (_, n) => recordOf(n, 'alive'))
    this.#view = reduceView(EMPTY_VIEW, this.#records).view
    this.#inputs = inputsOf({ state, self: SELF, view: () => this.#view })
    this.#networks = state.networksOnHost(SELF).map(({ vni }) => vni)
    const filters = filterTables({ vtep: addressOf(0), port: 4789 })
    const serf = serfTable({ bind: addressOf(0), port: 7946 })
    this.#guards = [filters, [serf]].map(
      tables =>
        new Guard(
          new MemoryFilters(),
          tables.map(table => ({ table, shape: `shape of ${table.name}` }))
        )
    )
  }

  static async start(state: ClusterState, hosts: number): Promise<Host> {
    const host = new Host(state, hosts)
    await host.#fullPass()
    return host
  }

  get shared(): number {
    return sharedNetworks(this.#state, SELF, peerOf(NEIGHBOUR)).length
  }

  async round(n: number): Promise<Round> {
    const [network] = this.#networks
    if (network === undefined) throw new Error('the host has no network')
    // Serf answers with new records each time.
    const fresh = (status: string): readonly unknown[] =>
      this.#records.map((_, at) => recordOf(at, at === NEIGHBOUR ? status : 'alive'))
    const [before, after] = n % 2 === 0 ? ['alive', 'failed'] : ['failed', 'alive']
    const [same, changed] = [fresh(before), recordOf(NEIGHBOUR, after)]
    return {
      memberQueryMs: await timed(() => this.#query(same)),
      memberChangeMs: await timed(() => this.#memberChange(changed)),
      hostChangeMs: await timed(() => this.#hostChange(n)),
      networkPassMs: (await timed(() => this.#networkPasses(network))) / PASSES,
      fullPassMs: await timed(() => this.#fullPass()),
      endpointPageMs: (await timed(() => this.#endpointPages())) / PASSES
    }
  }

  stop(): void {
    this.#inputs.stop()
  }

  #query(records: readonly unknown[]): void {
    this.#view = reduceView(this.#view, records).view
  }

  /** As after a line of Serf's log, which names the member. */
  #memberChange(record: unknown): void {
    const patched = patchView(this.#view, new Set([`h${NEIGHBOUR}`]), [record])
    if (patched === null || patched.changes.length === 0) throw new Error('the member has not changed')
    this.#view = patched.view
    const touched = patched.changes.map(change => touchedByMember({ state: this.#state, self: SELF, change }))
    if (touched.some(({ hostWide }) => hostWide)) throw new Error('a failure changes no address')
    for (const vni of touched.flatMap(({ networks }) => networks)) this.#networkPass(vni)
  }

  /** Another host registers, with a new tunnel address each time. */
  async #hostChange(n: number): Promise<void> {
    const command = registration(this.#hosts, this.#hosts + n)
    const { networks, hostWide } = touchedBy(this.#state, command)
    if (!hostWide || networks.length > 0) throw new Error('a new host changes the peers alone')
    this.#index += 1
    const session = { session: 'more', seq: this.#index, settledBelow: this.#index, rules: 1 }
    if (this.#index === 1) this.#apply({ ...session, seq: 0, command: { kind: 'session-open' } })
    this.#apply({ ...session, command })
    await this.#peersPass()
  }

  #apply(request: Request): void {
    const outcome = this.#state.apply((this.#state.appliedIndex + 1) as LogIndex, request)
    if (!outcome.ok) throw new Error(outcome.error.message)
  }

  /** Pages from the middle of the list, without their views. */
  #endpointPages(): void {
    const [network] = this.#networks
    const middle = Buffer.from(JSON.stringify([network, 0])).toString('base64url')
    for (let n = 0; n < PASSES; n++) endpointPage(this.#state, { limit: 500, continue: middle })
  }

  #networkPasses(vni: Vni): void {
    for (let n = 0; n < PASSES; n++) this.#networkPass(vni)
  }

  #networkPass(vni: Vni): void {
    desired(this.#inputs.input(vni))
    this.#inputs.gateways()
  }

  async #peersPass(): Promise<void> {
    const host = desired(this.#inputs.input())
    const gateways = this.#inputs.gateways()
    const look = { scope: null, trust: false, mayRemove: true, desired: { host: () => host, gateways: () => gateways } }
    for (const guard of this.#guards) await runPart(guard, look)
    hostRules(gateways, { underlay: [], exits: [], closed: [], tableSize: 262_144 })
  }

  /** Besides the kernel it is the same. */
  #fullPass(): Promise<void> {
    return this.#peersPass()
  }
}

/** Milliseconds of this thread's CPU: other load on the machine does not count. */
async function timed(work: () => unknown): Promise<number> {
  const before = process.threadCpuUsage()
  await work()
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1_000
}

function inputsOf(p: {
  readonly state: ClusterState
  readonly self: PeerId
  readonly view: () => MembershipView
}): DesiredInputs {
  const bind = addressOf(0)
  const underlay = { ...vxlanUnderlay(bind), device: 'eth0', ifindex: 2, mtu: 1500, overlayMtu: 1450 }
  const overlay = { vtep: bind, port: 4789, mtu: 1450, transit: TRANSIT }
  const config = { bind, egress: { local: [] }, overlay }
  return new DesiredInputs({
    ...p,
    resolver: new ServiceResolver(p.state),
    config: () => config as never,
    devices: { underlay: () => Promise.resolve(underlay) },
    underlay,
    graceEnded: () => undefined,
    clock: systemClock,
    logger: { info: () => undefined } as never
  })
}

/** @param local endpoints of each network on each of its hosts */
function fill(hosts: number, local: number): ClusterState {
  const state = new ClusterState()
  const apply = applier(state)
  for (let n = 0; n < hosts; n++) apply(registration(n, n))
  const [subnet, ifname] = [parseSubnet(SUBNET), parseIfName('eth0')]
  const free = { egressRate: 0, mtu: 0, egress: true, hostAccess: false }
  const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
  for (let n = 0; n < hosts; n++) {
    const network = parseNetworkName(`tenant-${n}`)
    apply({ kind: 'network-create', name: network, subnet, ...free })
    for (let i = 0; i < HOSTS_PER_NETWORK * local; i++) {
      const containerId = parseContainerId(`${n}-${i}`)
      const host = peerOf((n + (i % HOSTS_PER_NETWORK)) % hosts)
      apply({ kind: 'endpoint-attach', network, containerId, ifname, name: '', host, ...unshaped })
    }
  }
  return state
}

function registration(n: number, address: number): Command {
  const facts = { name: parseHostName(`h${n}`), vtep: addressOf(address), bootId: 'b', version: '1' }
  return { kind: 'host-register', host: { ...facts, peerId: peerOf(n), role: 'client' } }
}

/** A member as Serf's RPC lists it. */
function recordOf(n: number, status: string): unknown {
  const vtep = ipv4Of(addressOf(n))
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, vtep)
  const tags = { role: 'client', peer: peerOf(n), p2p: '4001', vtep: formatIp(vtep) }
  return { Name: `h${n}`, Addr: bytes, Port: 7946, Status: status, Tags: { ...tags, vx: '1', expect: '0' } }
}

function addressOf(n: number): Ip {
  return (0x0a000000 + n + 1) as Ip
}

function peerOf(n: number): PeerId {
  let [text, left] = ['', n]
  for (let i = 0; i < 4; i++) {
    text = `${DIGITS[left % DIGITS.length] ?? ''}${text}`
    left = Math.floor(left / DIGITS.length)
  }
  return parsePeerId(`12D3KooW${'x'.repeat(40)}${text}`)
}
