// The inputs of a pass are read through the index by host: they give the same desired state as the whole cluster would, at
// a cost that follows this host's endpoints.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { ServiceResolver } from '#allocator/service-resolver.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { DesiredInputs } from '#agent/reconcile/desired-inputs.ts'
import type { Config } from '#config/schema.ts'
import type { Command } from '#model/command.ts'
import type { MembershipView } from '#membership/view/view.ts'
import { parseContainerId, parseIfName, parseNetworkName, parseVni } from '#model/ids.ts'
import { LEFT_BOOT_ID, type Host } from '#model/host.ts'
import type { LogIndex, NetworkName, PeerId } from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { parseIpv4, parseTransitRange } from '#model/ipv4.ts'
import { desiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { vxlanUnderlay, type Underlay } from '#overlay/plan/underlay/underlay.ts'
import { LEAVE_GRACE_MS } from '#overlay/plan/network/leave-grace.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import * as made from '#test/allocator/fixtures.ts'
import { makeMember } from '../memory-host.ts'
import { makeHost, peer } from '../../overlay/fixtures.ts'
import { commands, HOSTS, play } from './commands.ts'

const TRANSIT = '240.0.0.0/8'
const BIND = parseIpv4('192.0.2.1')

function underlayOf(overlayMtu: number): Underlay {
  return { ...vxlanUnderlay(BIND), device: 'eth0', ifindex: 2, mtu: overlayMtu + 50, overlayMtu }
}

function inputsOf(p: {
  readonly state: ClusterState
  readonly self: PeerId
  readonly mtu?: number | 'auto'
  readonly readUnderlay?: () => number
  readonly view?: () => MembershipView | null
  readonly graceEnded?: () => void
  readonly clock?: Clock
}): { readonly inputs: DesiredInputs; readonly logged: unknown[] } {
  const logged: unknown[] = []
  const overlay = { vtep: BIND, port: 4789, mtu: p.mtu ?? 'auto', transit: TRANSIT }
  const { view = () => null, graceEnded = () => undefined } = p
  const inputs = new DesiredInputs({
    self: p.self,
    state: p.state,
    resolver: new ServiceResolver(p.state),
    config: () => ({ bind: BIND, dns: { enabled: false }, egress: { local: [] }, overlay }) as unknown as Config,
    view,
    devices: { underlay: async () => underlayOf((p.readUnderlay ?? (() => 1450))()) },
    underlay: underlayOf(1450),
    graceEnded,
    clock: p.clock ?? new ManualClock().clock,
    logger: { info: (fields: unknown) => logged.push(fields) } as unknown as Logger
  })
  return { inputs, logged }
}

/** With the peers as a list: they are computed when they are asked for. */
function resolved(host: DesiredHost): object {
  return { ...host, peers: [...host.peers.values()] }
}

/** The same input with every network and every endpoint of the cluster. */
function clusterWide(state: ClusterState, input: DesiredInput): DesiredInput {
  const networks = [...state.networks()]
  const { peers: _, ...rest } = input
  return { ...rest, networks, endpoints: new Map(networks.map(({ name }) => [name, state.endpointsOf(name)])) }
}

t.test('the local networks give the same desired state as all networks of the cluster', async t => {
  fc.assert(
    fc.property(commands, log => {
      const state = play(log, (_, apply) => apply())
      for (const n of HOSTS) {
        const { inputs } = inputsOf({ state, self: peer(n) })
        const all = clusterWide(state, inputs.input())
        assert.deepEqual(resolved(desired(inputs.input())), resolved(desired(all)))
        const options = { transit: parseTransitRange(TRANSIT), bind: BIND, memberAddresses: [] }
        assert.deepEqual(inputs.gateways(), desiredGateways({ ...all, ...options }))
        for (const { vni } of state.networks()) {
          const one = desired(inputs.input(vni)).networks
          assert.deepEqual(one.get(vni), desired(all).networks.get(vni), 'a pass over one network agrees')
          assert.ok(one.size <= 1)
        }
      }
    }),
    { numRuns: 300 }
  )
  t.pass()
})

t.test('a pass reads no network without a local endpoint', async t => {
  const state = bigCluster({ networks: 200, local: 2 })
  const { inputs, reads } = counted(state)
  t.equal(desired(inputs.input()).networks.size, 2)
  t.same(reads, { endpointsOf: 2, networks: 0 })
  t.equal(inputs.gateways().routers.size, 2)
  t.same(reads, { endpointsOf: 2, networks: 0 }, 'routers need local endpoints only')
})

t.test('a host without endpoints, or one that the state does not know, has nothing to hold', async t => {
  const state = bigCluster({ networks: 5, local: 1 })
  for (const self of [peer(3), peer(9)]) {
    const { inputs } = inputsOf({ state, self })
    t.equal(desired(inputs.input()).networks.size, 0)
    t.equal(inputs.gateways().routers.size, 0)
    t.same(state.networksOnHost(self), [])
  }
  const { inputs } = inputsOf({ state, self: peer(1) })
  t.equal(desired(inputs.input(parseVni(0xffffff))).networks.size, 0, 'a network that does not exist')
})

t.test("the overlay MTU follows the underlay's unless it is configured", async t => {
  let underlay = 1450
  const auto = inputsOf({ state: new ClusterState(), self: peer(1), readUnderlay: () => underlay })
  const fixed = inputsOf({ state: new ClusterState(), self: peer(1), mtu: 1300, readUnderlay: () => underlay })
  await auto.inputs.readMtu()
  t.same(auto.logged, [], 'an unchanged MTU is not logged')
  underlay = 8950
  await auto.inputs.readMtu()
  await fixed.inputs.readMtu()
  t.same([auto.inputs.overlayMtu, auto.inputs.underlayMtu], [8950, 9000])
  t.same([fixed.inputs.overlayMtu, fixed.inputs.underlayMtu], [1300, 9000])
  t.same(auto.logged, [{ mtu: 8950, before: 1450 }])
  t.same(fixed.logged, [])
  t.equal(auto.inputs.input().overlayMtu, 8950)
})

t.test('an underlay that cannot be read leaves the MTU as it is', async t => {
  const { inputs } = inputsOf({
    state: new ClusterState(),
    self: peer(1),
    readUnderlay: () => {
      throw new Error('no device')
    }
  })
  await t.rejects(inputs.readMtu(), /no device/)
  t.same([inputs.overlayMtu, inputs.underlayMtu], [1450, 1500])
})

/** Host 2 has an endpoint in every network, host 1 in the first `local` of them. */
function bigCluster(p: { readonly networks: number; readonly local: number }): ClusterState {
  const names = Array.from({ length: p.networks }, (_, n) => parseNetworkName(`n${n}`))
  const log: Command[] = names.flatMap((name, n) => [
    {
      kind: 'network-create',
      name,
      subnet: parseSubnet('10.1.0.0/28'),
      egressRate: 0,
      mtu: 0,
      egress: true,
      hostAccess: false
    },
    attach(name, { container: `r${n}`, host: 2 }),
    ...(n < p.local ? [attach(name, { container: `l${n}`, host: 1 })] : [])
  ])
  return play(log, (_, apply) => apply())
}

function attach(network: NetworkName, p: { container: string; host: number }): Command {
  return {
    kind: 'endpoint-attach',
    network,
    containerId: parseContainerId(p.container),
    ifname: parseIfName('eth0'),
    host: makeHost(p.host).peerId,
    name: '',
    ingressRate: 0,
    egressRate: 0,
    delayUs: 0
  }
}

/** Counts the reads that cost more than this host's share. */
function counted(state: ClusterState): {
  readonly inputs: DesiredInputs
  readonly reads: { endpointsOf: number; networks: number }
} {
  const reads = { endpointsOf: 0, networks: 0 }
  const endpointsOf = state.endpointsOf.bind(state)
  const networks = state.networks.bind(state)
  state.endpointsOf = network => {
    reads.endpointsOf++
    return endpointsOf(network)
  }
  state.networks = () => {
    reads.networks++
    return networks()
  }
  return { inputs: inputsOf({ state, self: peer(1) }).inputs, reads }
}

t.test('what follows from all hosts and members is computed again only after one of them has changed', async t => {
  const state = bigCluster({ networks: 2, local: 1 })
  const views = [makeMember(2, 'alive'), makeMember(2, 'failed'), { ...makeMember(2, 'failed'), address: BIND }].map(
    (member, n): MembershipView => ({ revision: n, members: [member], foreign: [] })
  )
  const [first, second, third] = views
  let view: MembershipView | null = first ?? null
  const { inputs } = inputsOf({ state, self: peer(1), view: () => view })
  const read = (): readonly unknown[] => [inputs.input().memberAddresses, inputs.gateways().guarded]
  const same = (before: readonly unknown[]): readonly boolean[] => read().map((one, at) => one === before[at])
  let before = read()
  t.same(same(before), [true, true])
  view = second ?? null
  t.same(same(before), [true, true], 'a failure changes no address')
  before = read()
  view = third ?? null
  t.same(same(before), [false, false], 'an address of Serf')
  before = read()
  state.apply((state.appliedIndex + 1) as LogIndex, {
    session: 's',
    seq: 1_000,
    settledBelow: 0,
    command: { kind: 'host-register', host: makeHost(4) }
  })
  t.same(same(before), [true, false], 'a host that is registered')
})

t.test('a member that leaves is leaving until its grace has ended, which is announced once', async t => {
  const manual = new ManualClock()
  let status: 'alive' | 'left' = 'alive'
  let ended = 0
  const view = (): MembershipView => ({ revision: 1, members: [makeMember(2, status)], foreign: [] })
  const graceEnded = (): void => void (ended += 1)
  const state = new ClusterState()
  const change = (command: Command): void => {
    const seq = state.appliedIndex
    state.apply((seq + 1) as LogIndex, { session: 's', seq, settledBelow: 0, command })
  }
  const register = (host: Host): void => change({ kind: 'host-register', host })
  change({ kind: 'session-open' })
  const { inputs } = inputsOf({ state, self: peer(1), view, graceEnded, clock: manual.clock })
  const seen = (): string | undefined => inputs.input().memberStatus?.get(peer(2))
  t.equal(seen(), 'alive')
  status = 'left'
  t.equal(seen(), 'failed', 'Serf alone says so')
  register(makeHost(2))
  await manual.advance(2 * LEAVE_GRACE_MS)
  t.equal(seen(), 'failed', 'the host does not')
  register({ ...makeHost(2), bootId: LEFT_BOOT_ID })
  t.equal(seen(), 'leaving', 'it does')
  await manual.advance(LEAVE_GRACE_MS / 2)
  t.equal(seen(), 'leaving')
  t.equal(ended, 0)
  await manual.advance(LEAVE_GRACE_MS / 2 + 1)
  t.equal(ended, 1)
  t.equal(seen(), 'left')
  t.equal(manual.pending, 0)
  status = 'alive'
  t.equal(seen(), 'alive')
  status = 'left'
  t.equal(seen(), 'leaving')
  inputs.stop()
  t.equal(manual.pending, 0, 'an agent that stops waits for nothing')
})

t.test('a pass reads the services of its networks, the very same ones while they have not changed', t => {
  const caller = made.Caller.raised()
  const { vni } = caller.endpoint(made.attach('red', 'web', { labels: { app: 'web' } }))
  caller.do(made.serve('red', 'web'))
  const { inputs } = inputsOf({ state: caller.state, self: made.peer(1) })
  const read = (): unknown => inputs.input(vni).services?.get(parseNetworkName('red'))
  const before = read()
  t.match(before, [{ address: parseIp('10.1.0.3'), ports: [{ port: 80, backends: [{ port: 8_080 }] }] }])
  caller.do(made.attach('red', 'other'))
  t.equal(read(), before)
  caller.do(made.relabel('web', { app: null }))
  t.match(read(), [{ ports: [{ backends: [] }] }])
  t.same(inputs.input().services?.get(parseNetworkName('none')), [])
  t.end()
})
