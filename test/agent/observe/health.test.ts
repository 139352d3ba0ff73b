// Checks, figures and the status over the sources that they name, from a host that is well to one on which nothing works.

import t from 'tap'
import { CounterWindow } from '#agent/observe/counters.ts'
import { figuresOf, type FigureSources } from '#agent/observe/figures.ts'
import { checksOf, isReady, statusLine, statusView } from '#agent/observe/health.ts'
import { NetworkTotals } from '#agent/observe/network-totals.ts'
import { PeerDirectory } from '#agent/observe/peer-directory.ts'
import { countTraffic } from '#agent/observe/traffic.ts'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Counters } from '#overlay/driver.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { attach, Caller, create, makeHost, remove } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { makeMember } from '../memory-host.ts'

const [H1, H2] = [makeHost(1).peerId, makeHost(2).peerId]
const VETH = vethName(parseContainerId('web'), parseIfName('eth0'))
const WELL = { drift: 0, degraded: [], repaired: {} }

const counted = (rxBytes: number): ReadonlyMap<string, Counters> =>
  new Map([[VETH, { ifindex: 7, rxBytes, txBytes: 0, rxPackets: 0, txPackets: 0 }]])

function makeCounters(
  read: () => ReadonlyMap<string, Counters> = () => new Map(),
  time = new ManualClock()
): CounterWindow {
  const ignore = (): void => undefined
  return new CounterWindow({
    read: () => Promise.resolve(read()),
    clock: time.clock,
    restarted: ignore,
    failed: ignore
  })
}

/** Host h1 of three, led by h2, with nothing wrong. */
function sources(p: Partial<FigureSources> & { readonly members?: readonly Member[] | null } = {}): FigureSources {
  const { state } = Caller.ready()
  const { members = [makeMember(1), makeMember(2), makeMember(3, 'failed')], ...rest } = p
  const view = (): { revision: 1; members: readonly Member[]; foreign: [] } | null =>
    members === null ? null : { revision: 1, members, foreign: [] }
  return {
    self: H1,
    version: '0.1.0',
    state,
    directory: new PeerDirectory({ state, view }),
    membership: { view, logDroppedBytes: 5 },
    log: {
      status: () => ({ role: 'follower', term: 3 as Term, leader: H2, commitIndex: 9 as LogIndex }),
      ...{ lag: 5, leaderChanges: 2, refusedMessages: 0, retries: 1 }
    },
    cluster: { clusterId: 'c0ffee' as ClusterId, obstacle: null },
    registrar: { registered: true, problem: null },
    reconciler: { status: () => WELL },
    digests: { differsAt: null },
    counters: makeCounters(),
    totals: new NetworkTotals(),
    refusedConnections: () => ({ preamble: 3 }),
    serfDrops: { latest: { stranger: 4, member: 0 } },
    guardDrops: { latest: { forged: 2 } },
    names: () => ({ resolvers: 0, queries: {}, cacheBytes: 0 }),
    ...rest
  }
}

const leaderless = (p: FigureSources): FigureSources['log'] => ({
  ...p.log,
  status: () => ({ ...p.log.status(), leader: null })
})

/** Each fault: the check that names it, and whether the host is not ready because of it. */
const FAULTS: readonly (readonly [check: string, forReady: boolean, faulty: FigureSources, trouble: RegExp])[] = [
  ['membership', true, sources({ members: null }), /Serf has not answered/],
  ['cluster', true, sources({ cluster: { clusterId: null, obstacle: null } }), /no cluster/],
  ['registered', true, sources({ registrar: { registered: false, problem: null } }), /does not hold this host$/],
  [
    'registered',
    true,
    sources({ registrar: { registered: false, problem: new VxmeshError('ERR_HOST_EXISTS', 'its name is taken') } }),
    /does not hold this host: its name is taken$/
  ],
  ['leader', false, sources({ log: leaderless(sources()) }), /no leader is known/],
  [
    'overlay',
    false,
    sources({ reconciler: { status: () => ({ ...WELL, degraded: ['network red: EBUSY', 'host: EPERM'] }) } }),
    /^network red: EBUSY; host: EPERM$/
  ],
  ['state', false, sources({ digests: { differsAt: 704 as LogIndex } }), /differs .* at index 704/]
]

t.test('a healthy host passes every check', t => {
  t.same(
    checksOf(sources()).filter(({ trouble }) => trouble !== null),
    []
  )
  t.ok(isReady(sources()))
  t.end()
})

t.test('each fault fails exactly its own check, and only some make the host not ready', t => {
  for (const [name, forReady, faulty, trouble] of FAULTS) {
    const failed = checksOf(faulty).filter(check => check.trouble !== null)
    t.same(
      failed.map(check => check.name),
      [name]
    )
    t.match(failed[0]?.trouble, trouble)
    t.equal(isReady(faulty), !forReady, name)
    t.equal(figuresOf(faulty).ready, !forReady, name)
  }
  t.same(
    [...new Set(FAULTS.map(([name]) => name))].sort(),
    checksOf(sources())
      .map(({ name }) => name)
      .sort(),
    'all checks'
  )
  t.end()
})

t.test('the status line counts the members that are alive, in plain words', t => {
  t.equal(statusLine(sources()), 'ready, leader h2, 2 members alive')
  t.equal(statusLine(sources({ members: [makeMember(1)] })), 'ready, leader h2, 1 member alive')
  t.equal(statusLine(sources({ members: null })), 'not ready, leader h2, 0 members alive')
  t.equal(statusLine(sources({ log: leaderless(sources()) })), 'ready, no leader is known, 2 members alive')
  t.end()
})

t.test('the status document names the leader, and shows a pre-candidate as a candidate', t => {
  const facts = { host: 'h1', driver: { name: 'bpf', guard: 'bpf', noPrograms: null }, version: '0.1.0' } as const
  t.match(statusView(sources(), facts), {
    ...{ host: 'h1', peerId: H1, cluster: 'c0ffee', ready: true, trouble: null, networks: 1, endpoints: 0 },
    ...{
      members: { alive: 2, failed: 1 },
      raft: { role: 'follower', term: 3, leader: 'h2', commitIndex: 9, appliedIndex: 4 }
    },
    overlay: { driver: 'bpf', guard: 'bpf', noPrograms: null, noServices: null, drift: 0 }
  })
  for (const [driver, why] of [
    [{ name: 'linux', guard: 'bpf', noPrograms: null }, null],
    [{ name: 'linux', guard: 'nft', noPrograms: 'Linux 5.4' }, 'Linux 5.4'],
    [{ name: 'linux', guard: 'nft', noPrograms: null }, /driver linux, guard nft/],
    [{ name: 'ovs', guard: 'off', noPrograms: null }, /driver ovs, guard off/]
  ] as const)
    t.match(statusView(sources(), { ...facts, driver }).overlay.noServices, why)
  const status = { ...sources().log.status(), role: 'pre-candidate', leader: null } as const
  const electing = sources({ log: { ...sources().log, status: () => status } })
  t.match(statusView(electing, facts), { raft: { role: 'candidate', leader: null } })
  const obstacle = 'two clusters'
  t.match(statusView(sources({ cluster: { clusterId: null, obstacle } }), facts), { cluster: null, trouble: obstacle })
  t.end()
})

t.test('figures count what the host holds', t => {
  const caller = Caller.ready()
  caller.do(attach('red', 'web'))
  caller.do(attach('red', 'db', { host: 2 }))
  t.match(figuresOf(sources({ state: caller.state })), {
    members: { alive: 2, failed: 1, left: 0, leaving: 0 },
    raft: { term: 3, isLeader: false, hasLeader: true, commitIndex: 9, leaderChanges: 2, proposalRetries: 1 },
    ...{ feedLag: 5, hosts: 2, networks: 1, endpoints: 2, unlisted: 0, diverged: false },
    addresses: [{ network: 'red', used: 2, free: 251 }],
    traffic: [{ network: 'red', endpoints: 1 }]
  })
  const leading = { ...sources().log.status(), role: 'leader', leader: H1 } as const
  t.equal(figuresOf(sources({ log: { ...sources().log, status: () => leading } })).raft.isLeader, true)
  t.end()
})

t.test('at most 256 networks have series of their own, those with the lowest VNIs', t => {
  const caller = Caller.ready()
  for (let n = 0; n < 300; n++) caller.do(create(`n${n}`, { subnet: `10.2.${n % 256}.0/24` }))
  const { addresses, unlisted, networks } = figuresOf(sources({ state: caller.state }))
  t.same([networks, addresses.length, unlisted], [301, 256, 45])
  t.same([addresses[0]?.network, addresses.at(-1)?.network], ['red', 'n254'])
  t.end()
})

t.test('traffic is summed by network: totals since the start, rates over the window', async t => {
  const [caller, time, totals] = [Caller.ready(), new ManualClock(), new NetworkTotals()]
  const { state } = caller
  caller.do(attach('red', 'web'))
  let rxBytes = 1_000
  const counters = makeCounters(() => counted(rxBytes), time)
  const own = sources({ state, counters, totals })
  for (let second = 0; second < 3; second++) {
    countTraffic(own, counted(rxBytes))
    if (second === 0) counters.start()
    else await time.advance(1_000)
    rxBytes += 125_000
  }
  counters.stop()
  t.match(figuresOf(own).traffic, [{ network: 'red', endpoints: 1, rxBytes: 250_000, rxRate: 1e6, txRate: 0 }])
  caller.do(remove('red', true))
  t.same(figuresOf(own).traffic, [])
  countTraffic(own, new Map())
  caller.do(create('red'))
  caller.do(attach('red', 'web'))
  t.match(figuresOf(own).traffic, [{ rxBytes: 0 }], 'a new network of the same name starts at zero')
})
