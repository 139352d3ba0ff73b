import t from 'tap'
import type { MachineFacts, MeshFacts, PeerAnswer, PeerFacts } from '#agent/doctor/facts.ts'
import { judgeAgent, judgeServices } from '#agent/doctor/judge-agent.ts'
import { judgeMachine } from '#agent/doctor/judge-machine.ts'
import { judgeMesh } from '#agent/doctor/judge-mesh.ts'
import { peerAnswer, readLocalReport, readTunnels } from '#agent/doctor/peer-answer.ts'
import type { FindingView } from '#model/views.ts'

const GIB = 1024 ** 3
const disk = { path: '/d', freeBytes: 9 * GIB, totalBytes: 10 * GIB, volatile: false, syncMs: 2 }
const machine: MachineFacts = {
  features: [{ name: 'vxlan', present: true, required: true, detail: 'works' }],
  underlay: { device: 'eth0', mtu: 1500 },
  sysctls: { 'net/ipv4/ip_forward': 0, 'net/netfilter/nf_conntrack_count': 5, 'net/netfilter/nf_conntrack_max': 100 },
  uplinks: 1,
  disk,
  guarded: [{ path: '/key', mode: 0o600, owner: 0 }],
  serfVersion: 'Serf v0.9.4'
}
const says: PeerAnswer = { clockMs: 5, roundTripMs: 2, index: 9, digest: 'd', underlayMtu: 1500 }
const open = { what: 'serf', address: '192.0.2.2:7946', trouble: null }
const h2: PeerFacts = {
  name: 'h2',
  status: 'alive',
  ports: [open],
  path: { wanted: 1500, passes: 1500 },
  tunnel: { sent: 20, came: 20 },
  answer: says
}
const voter = (name: string, alive = true): { name: string; alive: boolean } => ({ name, alive })
const mesh: MeshFacts = {
  overheadBytes: 50,
  tooNarrow: [],
  self: { name: 'h1', index: 9, digest: 'd' },
  unseen: 0,
  peers: [h2],
  ownPorts: [open],
  serf: { running: true, encrypted: true, keyed: true },
  serfDrops: { stranger: 0, member: 0, agoMs: null },
  cluster: 'c',
  trouble: null,
  leader: 'h1',
  voters: [voter('h1'), voter('h2'), voter('h3')],
  lag: 0,
  current: true,
  registered: true,
  registrarProblem: null,
  differsAt: null,
  contradictions: [],
  drift: 0,
  degraded: [],
  repaired: 0,
  fullPassAgeMs: 12_000,
  duplicates: []
}

type Row = readonly [id: string, level: FindingView['level'], found: RegExp]

const ofMachine = (change: Partial<MachineFacts>): readonly FindingView[] => judgeMachine({ ...machine, ...change })
const ofMesh = (change: Partial<MeshFacts>): readonly FindingView[] => {
  const facts = { ...mesh, ...change }
  return [...judgeMesh(facts), ...judgeAgent(facts)]
}
const peers = (change: Partial<PeerFacts>): readonly FindingView[] => ofMesh({ peers: [{ ...h2, ...change }] })
const sysctl = (key: string, value: number, more: Partial<MachineFacts> = {}): readonly FindingView[] =>
  ofMachine({ sysctls: { ...machine.sysctls, [key]: value }, ...more })

const BAD: readonly (readonly [what: string, findings: readonly FindingView[], ...Row])[] = [
  ['a driver that cannot be asked', ofMachine({ features: 'not root' }), 'kernel', 'failed', /not root/],
  [
    'a kernel without what the driver must have',
    ofMachine({ features: [{ name: 'vxlan', present: false, required: true, detail: 'EOPNOTSUPP' }] }),
    ...(['kernel.vxlan', 'failed', /EOPNOTSUPP/] as const)
  ],
  [
    'a kernel without what helps',
    ofMachine({ features: [{ name: 'neigh-suppress', present: false, required: false, detail: 'floods' }] }),
    ...(['kernel.neigh-suppress', 'warning', /floods/] as const)
  ],
  ['no device with the address', ofMachine({ underlay: 'no device' }), 'underlay', 'failed', /no device/],
  [
    'br_netfilter with a chain that drops what is forwarded',
    sysctl('net/bridge/bridge-nf-call-iptables', 1, {
      features: [{ name: 'egress', present: false, required: false, detail: 'ip filter FORWARD drops' }]
    }).filter(({ id }) => id !== 'kernel.egress'),
    ...(['br_netfilter', 'warning', /ip filter FORWARD drops/] as const)
  ],
  [
    'strict reverse paths with two ways out',
    sysctl('net/ipv4/conf/all/rp_filter', 1, { uplinks: 2 }),
    ...(['rp_filter', 'warning', /strict/] as const)
  ],
  ['connections near the limit', sysctl('net/netfilter/nf_conntrack_count', 85), 'conntrack', 'warning', /85 of 100/],
  ['a full table of connections', sysctl('net/netfilter/nf_conntrack_count', 100), 'conntrack', 'failed', /100 of/],
  ['no data directory', ofMachine({ disk: 'ENOENT' }), 'disk', 'failed', /ENOENT/],
  ['a disk that fills', ofMachine({ disk: { ...disk, freeBytes: GIB / 2 } }), 'disk.space', 'warning', /512 of/],
  ['a full disk', ofMachine({ disk: { ...disk, freeBytes: 1 } }), 'disk.space', 'failed', /0 of/],
  ['a slow disk', ofMachine({ disk: { ...disk, syncMs: 300 } }), 'disk.sync', 'warning', /300 ms/],
  ['a disk that fails', ofMachine({ disk: { ...disk, syncMs: 'EIO' } }), 'disk.sync', 'failed', /EIO/],
  ['a directory in memory', ofMachine({ disk: { ...disk, volatile: true } }), 'disk.kept', 'warning', /in memory/],
  [
    'a key that others read',
    ofMachine({ guarded: [{ path: '/key', mode: 0o644, owner: 0 }] }),
    ...(['permissions', 'failed', /\/key has mode 0644/] as const)
  ],
  [
    'a key of somebody else',
    ofMachine({ guarded: [{ path: '/key', mode: 0o600, owner: 7 }] }),
    ...(['permissions', 'failed', /belongs to user 7/] as const)
  ],
  ['no Serf', ofMachine({ serfVersion: null }), 'serf.program', 'failed', /does not run/],
  [
    'services that do not work here',
    [judgeServices({ why: 'guard nft', count: 2 })],
    ...(['services', 'warning', /2, which this host’s containers do not reach: guard nft/] as const)
  ],
  ['a failed member', peers({ status: 'failed' }), 'members', 'warning', /h2 failed/],
  ['a closed port', peers({ ports: [{ ...open, trouble: 'no answer' }] }), 'ports', 'failed', /h2 serf 192.*no answer/],
  [
    'a port that is not ours',
    ofMesh({ ownPorts: [{ ...open, trouble: 'ECONNREFUSED' }] }),
    ...(['ports.own', 'failed', /ECONNREFUSED/] as const)
  ],
  ['a closed tunnel', peers({ tunnel: { sent: 20, came: 0 } }), 'tunnel', 'failed', /nothing comes out .* h2/],
  ['a lossy tunnel', peers({ tunnel: { sent: 20, came: 15 } }), 'tunnel', 'warning', /h2: 15 of 20/],
  ['a narrow way', peers({ path: { wanted: 1500, passes: 1400 } }), 'mtu', 'failed', /to h2 1400 of 1500 bytes/],
  ['a network too narrow', ofMesh({ tooNarrow: ['red'] }), 'mtu', 'failed', /IPv6 needs an MTU of 1280 in red/],
  ['a way without echo', peers({ path: { wanted: 1500, passes: 0 } }), 'mtu', 'warning', /no answer .* h2/],
  ['no ping', peers({ path: { wanted: 1500, passes: null } }), 'mtu', 'warning', /not installed/],
  ['an agent that is silent', peers({ answer: 'timeout' }), 'agents', 'warning', /h2: timeout/],
  ['a clock ahead', peers({ answer: { ...says, clockMs: 3_000 } }), 'clock', 'warning', /h2 ahead by 3.0 s/],
  ['a clock behind', peers({ answer: { ...says, clockMs: -3_000 } }), 'clock', 'warning', /h2 behind by 3.0 s/],
  ['another state', peers({ answer: { ...says, digest: 'x' } }), 'state.equal', 'failed', /at log index 9 .* h2/],
  ['a state unlike the leader’s', ofMesh({ differsAt: 4 }), 'state.equal', 'failed', /log index 4/],
  ['Serf away', ofMesh({ serf: 'not running' }), 'serf', 'failed', /not running/],
  [
    'Serf in clear',
    ofMesh({ serf: { running: true, encrypted: false, keyed: true } }),
    'serf',
    'failed',
    /not encrypt/
  ],
  ['no key', ofMesh({ serf: { running: true, encrypted: false, keyed: false } }), 'serf', 'warning', /insecure/],
  [
    'a flood of Serf’s port',
    ofMesh({ serfDrops: { stranger: 9_000, member: 0, agoMs: 2_000 } }),
    ...([
      'serf.flood',
      'warning',
      /9000 packets of strangers and 0 of members dropped, the last one 2.0 s ago/
    ] as const)
  ],
  ['no cluster', ofMesh({ cluster: null, trouble: 'waits for h3' }), 'quorum', 'failed', /waits for h3/],
  ['no leader', ofMesh({ leader: null }), 'quorum', 'failed', /leader unknown/],
  [
    'no majority',
    ofMesh({ voters: [voter('h1'), voter('h2', false), voter('h3', false)] }),
    ...(['quorum', 'failed', /1 of 3 .*no majority/] as const)
  ],
  [
    'a server down of three',
    ofMesh({ voters: [voter('h1'), voter('h2'), voter('h3', false)] }),
    ...(['quorum', 'warning', /without h3: 0 may fail/] as const)
  ],
  [
    'a server down of five',
    ofMesh({ voters: [...mesh.voters, voter('h4'), voter('h5', false)] }),
    ...(['quorum', 'warning', /without h5: 1 may fail/] as const)
  ],
  ['one server alone', ofMesh({ voters: [voter('h1')] }), 'quorum', 'warning', /0 may fail/],
  ['two of a name', ofMesh({ duplicates: ['name h2 is used twice'] }), 'unique', 'failed', /h2 is used twice/],
  ['a host that is refused', ofMesh({ registered: false, registrarProblem: 'taken' }), 'registered', 'failed', /taken/],
  ['a feed that lags', ofMesh({ lag: 500 }), 'feed', 'warning', /500 entries/],
  ['a copy that nobody confirmed', ofMesh({ current: false }), 'feed', 'warning', /no server/],
  ['a bit without its owner', ofMesh({ contradictions: ['VNI 5 is marked'] }), 'state.sound', 'failed', /VNI 5/],
  ['no full pass', ofMesh({ fullPassAgeMs: null }), 'reconcile', 'warning', /no full pass/],
  ['a late full pass', ofMesh({ fullPassAgeMs: 100_000 }), 'reconcile', 'warning', /100 s ago/],
  ['a loop that hangs', ofMesh({ fullPassAgeMs: 400_000 }), 'reconcile', 'failed', /400 s ago/],
  ['a degraded network', ofMesh({ drift: 1, degraded: ['network red: x'] }), 'overlay', 'failed', /network red/],
  ['drift', ofMesh({ drift: 2 }), 'overlay', 'warning', /2 differences/]
]

t.test('bridged packets that pass iptables are no finding by themselves: Kubernetes expects it', t => {
  const found = sysctl('net/bridge/bridge-nf-call-iptables', 1).find(({ id }) => id === 'br_netfilter')
  t.match(found, { level: 'ok', found: /not its NAT/ })
  t.end()
})

t.test('a healthy host has only findings of level ok, without advice', t => {
  for (const { id, level, todo } of [...ofMachine({}), ...ofMesh({})]) t.same([level, todo], ['ok', ''], id)
  t.end()
})

for (const [what, findings, id, level, found] of BAD) {
  t.test(`${what} gives exactly the finding ${id}, ${level}, with advice`, t => {
    const bad = findings.filter(finding => finding.level !== 'ok' && !(id !== 'members' && finding.id === 'members'))
    t.match(bad, [{ id, level, found }])
    t.equal(bad.length, 1, JSON.stringify(bad))
    t.not(bad[0]?.todo, '')
    t.end()
  })
}

t.test('finding ids are unique, except those of kernel features', t => {
  const ids = [...ofMachine({}), ...ofMesh({})].map(({ id }) => id)
  t.equal(new Set(ids).size, ids.length)
  t.end()
})

t.test('a clock is judged by the difference that the round trip cannot explain', t => {
  const told = { timeMs: 10_000, index: 1, digest: 'd', underlayMtu: 1500, tunnels: [] }
  t.match(peerAnswer(told, 7_000, 9_000), { clockMs: 2_000, roundTripMs: 2_000 })
  const level = (answer: PeerAnswer): unknown => peers({ answer }).find(({ id }) => id === 'clock')?.level
  t.equal(level({ ...says, clockMs: 2_000, roundTripMs: 2_000 }), 'ok')
  t.equal(level({ ...says, clockMs: 2_001, roundTripMs: 2_000 }), 'warning')
  t.end()
})

t.test('a report from another agent is checked', t => {
  const good = { timeMs: 1, index: 1, digest: 'd', underlayMtu: 1500, tunnels: [[1, 2]] }
  t.same(readLocalReport(good), good)
  for (const change of [{ timeMs: 'x' }, { index: 1.5 }, { digest: 1 }, { underlayMtu: null }, { tunnels: [[1]] }]) {
    t.throws(() => readLocalReport({ ...good, ...change }), { code: 'ERR_PEER' }, JSON.stringify(change))
  }
  t.throws(() => readLocalReport({ ...good, tunnels: Array.from({ length: 257 }, () => [1, 1]) }), { code: 'ERR_PEER' })
  for (const other of [null, undefined, 'x', 5, []]) t.throws(() => readLocalReport(other), { code: 'ERR_PEER' })
  t.end()
})

t.test('only tunnel devices are read from the kernel’s table', t => {
  const table =
    'Inter-|   Receive                 |  Transmit\n face |bytes packets errs\n' +
    '    lo:    1    2 0\nvx000abc: 530 17 0 0 0\n  vx1: 1 1 0\nxvx000abd: 9 9 9\n'
  t.same(readTunnels(table), [[0xabc, 17]])
  t.end()
})

t.test('where there are no services, or they work, there is nothing to do', async t => {
  t.match(judgeServices({ why: 'guard nft', count: 0 }), { level: 'ok', found: /none; .*guard nft/, todo: '' })
  t.match(judgeServices({ why: null, count: 3 }), { level: 'ok', found: /^3/, todo: '' })
})
