import t from 'tap'
import { ClusterState } from '#allocator/state-machine.ts'
import { EventBus, MAX_RECENT } from '#agent/observe/event-bus.ts'
import { changeEvent, memberEvent } from '#agent/observe/events.ts'
import type { Command } from '#model/command.ts'
import type { AgentEvent, UntimedEvent } from '#model/event.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, parsePeerId } from '#model/ids.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { addSubnet, attach, Caller, create, detach, relabel } from '#test/allocator/fixtures.ts'

const PEER = parsePeerId(`12D3KooW${'a'.repeat(44)}`)
const NETWORK = parseNetworkName('blue')
const [CONTAINER, IFNAME] = [parseContainerId('web1'), parseIfName('eth0')]
const HOST = { name: parseHostName('h1'), peerId: PEER, vtep: parseIpv4('192.0.2.1') }

const CREATE: Command = {
  kind: 'network-create',
  name: NETWORK,
  subnet: parseSubnet('10.1.0.0/24'),
  egressRate: 0,
  mtu: 0,
  egress: true,
  hostAccess: false
}
const REGISTER: Command = {
  kind: 'host-register',
  host: { ...HOST, role: 'server', bootId: 'b', version: '1' }
}
const ATTACH: Command = {
  kind: 'endpoint-attach',
  network: NETWORK,
  containerId: CONTAINER,
  ifname: IFNAME,
  name: '',
  host: PEER,
  ingressRate: 0,
  egressRate: 0,
  delayUs: 0
}

/** The events of these commands, applied in order by the real state machine. */
function told(commands: readonly Command[]): (UntimedEvent | null)[] {
  const state = new ClusterState()
  return [{ kind: 'session-open' } as const, ...commands].map((command, seq) => {
    const index = (seq + 1) as LogIndex
    const outcome = state.apply(index, { session: 's', seq, settledBelow: 0, command })
    const names = { network: state.network.bind(state), hostName: () => 'h1' }
    return changeEvent({ index, command, outcome, ...names })?.() ?? null
  })
}

t.test('each change is one event with its log index; a session and a refusal are none', async t => {
  const detach: Command = { kind: 'endpoint-detach', containerId: CONTAINER, ifname: IFNAME }
  const events = told([
    CREATE,
    CREATE,
    REGISTER,
    ATTACH,
    { kind: 'network-update', name: NETWORK, egressRate: 5 },
    { kind: 'endpoint-update', containerId: ATTACH.containerId, ifname: ATTACH.ifname, egressRate: 8e3 },
    detach,
    detach,
    { kind: 'network-delete', name: NETWORK, force: false },
    { kind: 'host-remove', name: HOST.name }
  ])
  t.same(
    events.map(event => (event === null ? null : [event.kind, 'index' in event && event.index])),
    [
      null,
      ['network-created', 2],
      null,
      ['host-registered', 4],
      ['endpoint-attached', 5],
      ['network-updated', 6],
      ['endpoint-updated', 7],
      ['endpoint-detached', 8],
      null,
      ['network-deleted', 10],
      ['host-removed', 11]
    ]
  )
  t.match(events[4], { endpoint: { network: 'blue', containerId: 'web1', address: '10.1.0.2/24', host: 'h1' } })
  t.match(events[5], { network: { name: 'blue', vni: 4096, subnet: '10.1.0.0/24', egressRate: 5 } })
  t.match(events[6], { endpoint: { containerId: 'web1', egressRate: 8e3 } })
})

t.test('events of networks and endpoints of both families tell all subnets, gateways and addresses', async t => {
  const caller = Caller.raised()
  const event = (command: Command): UntimedEvent | null => {
    const outcome = caller.try(command)
    const names = { network: caller.state.network.bind(caller.state), hostName: () => 'h1' }
    return changeEvent({ index: caller.index, command, outcome, ...names })?.() ?? null
  }
  const both = { subnets: ['10.2.0.0/24', 'fd00:2::/64'], gateways: ['10.2.0.1', 'fd00:2::1'] }
  t.match(event(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' })), { network: both })
  t.match(event(attach('both', 'a', { address6: 'fd00:2::77' })), {
    endpoint: { address: '10.2.0.2/24', addresses: ['10.2.0.2/24', 'fd00:2::77/64'] }
  })
  t.match(event(detach('a')), { endpoint: { addresses: ['10.2.0.2/24', 'fd00:2::77/64'] } })
  t.match(event(create('six', { subnet: 'fd00:6::/64' })), { network: { subnets: ['fd00:6::/64'] } })
  t.match(event(attach('six', 'b')), { endpoint: { address: 'fd00:6::2/64', addresses: ['fd00:6::2/64'] } })
  t.match(event(addSubnet('six', '10.6.0.0/24')), {
    kind: 'network-updated',
    network: { subnet: '10.6.0.0/24', subnets: ['10.6.0.0/24', 'fd00:6::/64'], gateways: ['10.6.0.1', 'fd00:6::1'] }
  })
  t.match(event(detach('b')), { endpoint: { addresses: ['10.6.0.2/24', 'fd00:6::2/64'] } })
})

t.test('events of an endpoint tell its labels', async t => {
  const caller = Caller.raised()
  const event = (command: Command): unknown => {
    const outcome = caller.try(command)
    const names = { network: caller.state.network.bind(caller.state), hostName: () => 'h1' }
    return changeEvent({ index: caller.index, command, outcome, ...names })?.()
  }
  t.match(event(attach('red', 'a', { labels: { app: 'web' } })), { endpoint: { labels: { app: 'web' } } })
  const changed = { kind: 'endpoint-updated', endpoint: { labels: { app: 'web', tier: 'front' } } }
  t.match(event(relabel('a', { tier: 'front' })), changed)
  t.match(event(detach('a')), { kind: 'endpoint-detached', endpoint: { labels: { app: 'web', tier: 'front' } } })
  t.match(event(attach('red', 'b')), { endpoint: { labels: {} } })
})

t.test('a member that appears, changes or vanishes is one event', async t => {
  const member = (n: number, status: Member['status'] = 'alive'): Member => ({
    name: parseHostName(`h${n}`),
    address: parseIpv4(`192.0.2.${n}`),
    port: 7946,
    status,
    role: 'server',
    peerId: parsePeerId(`12D3KooW${`${n}`.repeat(44)}`),
    vtep: parseIpv4(`192.0.2.${n}`),
    p2pPort: 7947,
    protocol: 1,
    bootstrapExpect: 3
  })
  const events = [
    memberEvent({ kind: 'changed', before: member(2), after: member(2, 'failed') }),
    memberEvent({ kind: 'appeared', after: member(4) }),
    memberEvent({ kind: 'vanished', before: member(3) })
  ]
  t.match(events, [
    { kind: 'member', member: { name: 'h2', status: 'failed' } },
    { kind: 'member', member: { name: 'h4', status: 'alive' } },
    { kind: 'member-vanished', name: 'h3' }
  ])
})

t.test('an event tells how things were when it happened, however late it is described', async t => {
  const state = new ClusterState()
  let seq = -1
  const apply = (command: Command): (() => UntimedEvent) | null => {
    seq += 1
    const index = (seq + 1) as LogIndex
    const outcome = state.apply(index, { session: 's', seq, settledBelow: 0, command })
    const hostName = (peer: PeerId): string => state.host(peer)?.name ?? peer
    return changeEvent({ index, command, outcome, network: state.network.bind(state), hostName })
  }
  const setUp: readonly Command[] = [{ kind: 'session-open' }, REGISTER, CREATE]
  for (const command of setUp) apply(command)
  const [attached, deleted] = [apply(ATTACH), apply({ kind: 'network-delete', name: NETWORK, force: true })]
  apply({ kind: 'host-remove', name: HOST.name })
  t.match(attached?.(), { kind: 'endpoint-attached', index: 4, endpoint: { address: '10.1.0.2/24', host: 'h1' } })
  t.match(deleted?.(), { kind: 'network-deleted', index: 5, network: { name: 'blue' } })
})

t.test('an event that nobody reads is not described, and its time is that of the change', async t => {
  let [nowMs, described] = [0, 0]
  const bus = new EventBus({ wallMs: () => (nowMs += 1_000) })
  const describe = (): UntimedEvent => ({ kind: 'watching', index: (described += 1) })
  for (let n = 0; n < MAX_RECENT; n++) bus.publish(describe)
  t.equal(described, 0)
  t.equal(bus.recent()[1]?.time, '1970-01-01T00:00:02.000Z')
  t.equal(described, MAX_RECENT)
  const stops = [bus.listen(() => undefined), bus.listen(() => undefined)]
  bus.publish(describe)
  t.equal(described, MAX_RECENT + 1, 'once for all listeners')
  for (const stop of stops) stop()
  bus.publish(describe)
  t.equal(described, MAX_RECENT + 1)
})

t.test('a listener gets each event once, until it unsubscribes', async t => {
  const bus = new EventBus({ wallMs: () => Date.UTC(2026, 0, 1) })
  const received: AgentEvent[] = []
  const stop = bus.listen(event => received.push(event))
  bus.publish(() => ({ kind: 'watching', index: 1 }))
  bus.publish(null)
  stop()
  bus.publish(() => ({ kind: 'watching', index: 2 }))
  t.match(received, [{ kind: 'watching', index: 1, time: '2026-01-01T00:00:00.000Z' }])
  t.equal(received.length, 1)
})

t.test('the most recent events are kept in order, up to the bound', async t => {
  const bus = new EventBus({ wallMs: () => Date.UTC(2026, 0, 1) })
  t.same(bus.recent(), [])
  const indexes = (): unknown[] => bus.recent().map(event => (event as { index: number }).index)
  for (const [published, first] of [
    [1, 1],
    [MAX_RECENT - 1, 1],
    [MAX_RECENT, 1],
    [MAX_RECENT + 1, 2],
    [3 * MAX_RECENT + 7, 2 * MAX_RECENT + 8]
  ] as const) {
    for (let index = indexes().length === 0 ? 1 : Number(indexes().at(-1)) + 1; index <= published; index++) {
      bus.publish(() => ({ kind: 'watching', index }))
    }
    t.same(
      indexes(),
      Array.from({ length: Math.min(published, MAX_RECENT) }, (_, n) => first + n),
      `${published} published`
    )
  }
})

t.test('a replayed event is not kept, and is described only while somebody listens', async t => {
  const bus = new EventBus({ wallMs: () => Date.UTC(2026, 0, 1) })
  let described = 0
  const replay = (): void =>
    bus.publish(() => {
      described += 1
      return { kind: 'watching', index: described }
    }, 'past')
  replay()
  t.equal(described, 0)
  const received: AgentEvent[] = []
  bus.listen(event => received.push(event))
  replay()
  t.same([received.length, bus.recent()], [1, []])
})
