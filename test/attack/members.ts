// What a member that is no server, and one server alone, may try against all: forged registrations, requests for others,
// Raft messages, gossip. One stolen client does most of it; its agent is back for the last row.

import type { Command } from '#model/command.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, type PeerId } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import type { EndpointView, NetworkView } from '#model/views.ts'
import { VERSION } from '#platform/version.ts'
import { ENDPOINT_DEFAULTS } from '#model/settings.ts'
import type { LabHost } from '../lab/host.ts'
import { waitFor } from '../lab/wait.ts'
import type { Outcome, Row } from './row.ts'
import { Stolen, type Answer } from './stolen.ts'
import type { World } from './world.ts'

/** Beyond every real term and index, within what the codec takes. */
const MUCH = 2 ** 50
/** Ahead of the real term, and no number that is refused as such. */
const AHEAD = 1_000
const PINGS = 100
const TRANSFERS = 20
/** The leader moves at most so often for a client host. */
const TRANSFER_PAUSE_S = 3
/** More than a host may have (allocator/quotas.ts). */
const SESSIONS = 70
const GOSSIPS = 10

export const MEMBERS: readonly Row<World>[] = [
  { name: '14 stolen client: the VTEP and the record of others', run: registers },
  { name: '15 stolen client: another host’s containers', run: detaches },
  { name: '15 stolen client: the leadership', run: transfers },
  { name: '16 stolen client: Raft messages as a leader and a candidate', run: unseats },
  { name: '18 stolen client: gossip of a term and index beyond all', run: farGossip },
  { name: '18 stolen client: gossip of an entry that nobody committed', run: falseEntry },
  { name: '19 stolen client: sessions without end', run: sessions },
  { name: '17 stolen server: entries out of order, and of no form', run: disorder },
  { name: '14-19 after all of it: every host as before', run: after }
]

/** The stolen client of a world, until it is given back. */
const stolenOf = new WeakMap<World, Promise<Stolen>>()

function stolenClient(world: World): Promise<Stolen> {
  const known = stolenOf.get(world) ?? Stolen.steal(world, world.stolen)
  stolenOf.set(world, known)
  return known
}

function register(host: LabHost, peerId: string, vtep: string, version = VERSION): Command {
  return {
    kind: 'host-register',
    host: {
      name: parseHostName(host.name),
      peerId: peerId as PeerId,
      vtep: parseIp(vtep),
      role: 'client',
      bootId: 'stolen',
      version
    }
  }
}

function attach(containerId: string, host: string): Command {
  const [network, ifname] = [parseNetworkName('red'), parseIfName('eth0')]
  const id = parseContainerId(containerId)
  return {
    kind: 'endpoint-attach',
    network,
    containerId: id,
    ifname,
    name: '',
    host: host as PeerId,
    ...ENDPOINT_DEFAULTS
  }
}

function detach(containerId: string): Command {
  return { kind: 'endpoint-detach', containerId: parseContainerId(containerId), ifname: parseIfName('eth0') }
}

const tally = (answers: readonly Answer[]): string =>
  [...new Set(answers)].map(answer => `${answers.filter(one => one === answer).length} ${answer}`).join(', ')

async function registers(world: World): Promise<Outcome> {
  const leader = await world.leader()
  const stolen = await stolenClient(world)
  const [other, victim] = [world.host(2), stolen.peer(world.host(2))]
  await stolen.propose(leader, { kind: 'session-open' })
  const own = await stolen.propose(leader, register(stolen.host, stolen.peerId, stolen.host.address))
  const ping = world.container('me').startPing(world.address('far'), { count: PINGS, intervalMs: 20 })
  const answers: Answer[] = []
  for (const command of [
    register(stolen.host, stolen.peerId, other.address),
    register(other, victim, stolen.host.address),
    register(stolen.host, stolen.peerId, '203.0.113.10'),
    register(stolen.host, stolen.peerId, world.lab.addressOf(254)),
    register(stolen.host, stolen.peerId, '198.51.100.254'),
    register(stolen.host, stolen.peerId, '2001:db8::fe'),
    register(stolen.host, stolen.peerId, stolen.host.address, '0')
  ]) {
    for (let n = 0; n < 5; n++) answers.push(await stolen.propose(leader, command))
  }
  const { sent, gaps } = await ping.result
  const hosts = (await leader.api.call('GET', '/v1/hosts')) as { name: string; vtep: string }[]
  const right = hosts.every(({ name, vtep }) => world.members.find(host => host.name === name)?.address === vtep)
  return {
    control: { ok: own === 'ok', figure: `its own record: ${own}` },
    attack: {
      ok: !answers.includes('ok') && right && gaps.length === 0,
      figure: `${tally(answers)}; ${gaps.length} of ${sent} pings of a tenant lost`
    }
  }
}

async function detaches(world: World): Promise<Outcome> {
  const leader = await world.leader()
  const stolen = await stolenClient(world)
  const own = [
    await stolen.propose(leader, attach('of-the-stolen', stolen.peerId)),
    await stolen.propose(leader, detach('of-the-stolen'))
  ]
  const before = await endpoints(leader)
  const answers = [
    await stolen.propose(leader, detach('far')),
    await stolen.propose(leader, detach('tenant')),
    await stolen.propose(leader, attach('pushed', stolen.peer(world.host(2)))),
    await stolen.propose(leader, {
      kind: 'endpoint-update',
      containerId: parseContainerId('far'),
      ifname: parseIfName('eth0'),
      egressRate: 1_000_000
    }),
    await stolen.propose(leader, { kind: 'network-delete', name: parseNetworkName('blue'), force: true }),
    await stolen.propose(leader, { kind: 'host-remove', name: parseHostName('h2') })
  ]
  const lost = before - (await endpoints(leader))
  return {
    control: { ok: own.every(answer => answer === 'ok'), figure: `its own: ${tally(own)}` },
    attack: { ok: !answers.includes('ok') && lost === 0, figure: `${tally(answers)}; ${lost} endpoints lost` }
  }
}

async function endpoints(host: LabHost): Promise<number> {
  return ((await host.api.call('GET', '/v1/endpoints')) as EndpointView[]).length
}

async function transfers(world: World): Promise<Outcome> {
  const stolen = await stolenClient(world)
  const before = await world.leader()
  const termBefore = (await before.status()).raft.term
  const since = performance.now()
  for (let n = 0; n < TRANSFERS; n++) {
    for (const host of world.servers) {
      const body = stolen.peer(world.servers[n % 3] ?? host)
      await stolen.ask({ kind: 'request', peer: stolen.peer(host), method: 'raft-transfer', body })
    }
  }
  const seconds = (performance.now() - since) / 1_000
  const leader = await world.leader()
  const moves = (await leader.status()).raft.term - termBefore
  const commits = await world.commits(3)
  const most = 1 + Math.ceil(seconds / TRANSFER_PAUSE_S)
  return {
    control: { ok: commits === 3, figure: `${commits} of 3 commits after it` },
    attack: { ok: moves <= most, figure: `${3 * TRANSFERS} requests in ${seconds.toFixed(1)} s: ${moves} terms` }
  }
}

async function unseats(world: World): Promise<Outcome> {
  const stolen = await stolenClient(world)
  const leader = await world.leader()
  const { term } = (await leader.status()).raft
  const calm = await world.commits(3)
  const peers = world.servers.map(host => stolen.peer(host))
  for (let n = 0; n < 5; n++) await stolen.ask({ kind: 'unseat', peers, term })
  const commits = await world.commits(3)
  const same = await world.leader()
  const now = (await same.status()).raft.term
  return {
    control: { ok: calm === 3, figure: `${calm} of 3 commits before it` },
    attack: {
      ok: commits === 3 && now === term,
      figure: `term ${term} to ${now}, leader ${leader.name} to ${same.name}, ${commits} of 3 commits`
    }
  }
}

/** Has the follower caught up with what the servers have committed? */
async function follows(world: World, host: LabHost): Promise<boolean> {
  const { raft } = await (await world.leader()).status()
  return waitFor(`${host.name} follows`, async () => (await host.status()).raft.appliedIndex >= raft.commitIndex).then(
    () => true,
    () => false
  )
}

async function farGossip(world: World): Promise<Outcome> {
  const stolen = await stolenClient(world)
  const client = world.host(4)
  await world.commits(1)
  const before = await follows(world, client)
  const { raft: known } = await client.status()
  for (let n = 0; n < GOSSIPS; n++) {
    await stolen.ask({ kind: 'gossip', term: known.term + AHEAD, commitIndex: known.commitIndex })
    await stolen.ask({ kind: 'gossip', term: MUCH + n, commitIndex: MUCH + n })
  }
  await world.commits(3)
  const ok = await follows(world, client)
  const { raft } = await client.status()
  const commits = await world.commits(2, client)
  return {
    control: { ok: before, figure: `the client follows ${before ? '' : 'not '}before it` },
    attack: {
      ok: ok && raft.term < known.term + AHEAD && raft.leader !== null && commits === 2,
      figure: `${2 * GOSSIPS} messages: term ${raft.term}, leader ${raft.leader ?? 'none'}, ${commits} of 2 commits by the client`
    }
  }
}

async function falseEntry(world: World): Promise<Outcome> {
  const stolen = await stolenClient(world)
  const client = world.host(4)
  await world.host(1).api.call('POST', '/v1/networks', { name: 'doomed', subnet: '10.55.0.0/24' })
  await follows(world, client)
  const has = async (): Promise<boolean> =>
    ((await client.api.call('GET', '/v1/networks')) as NetworkView[]).some(({ name }) => name === 'doomed')
  const known = await has()
  for (let n = 0; n < GOSSIPS; n++) {
    const { raft } = await client.status()
    const index = raft.appliedIndex + 1
    const command = { kind: 'network-delete', name: 'doomed', force: true }
    const request = { session: '', seq: 0, settledBelow: 0, command }
    await stolen.ask({
      kind: 'gossip',
      term: raft.term,
      commitIndex: index,
      entry: { index, term: raft.term, request }
    })
  }
  await world.commits(3)
  const still = await has()
  const same = await healed(world)
  await world
    .host(1)
    .api.call('DELETE', '/v1/networks/doomed')
    .catch(() => undefined)
  return {
    control: { ok: known, figure: `the client knows the network ${known ? '' : 'not '}before it` },
    attack: {
      ok: still && same,
      figure: `${GOSSIPS} messages: the network is ${still ? 'still there' : 'gone'}, the state is ${same ? 'the same' : 'another'} on all hosts`
    }
  }
}

/** Do all hosts, except a stolen one, come to have the same state? */
function healed(world: World): Promise<boolean> {
  return world.settled().then(
    () => true,
    () => false
  )
}

async function sessions(world: World): Promise<Outcome> {
  const stolen = await stolenClient(world)
  const leader = await world.leader()
  const create = (n: number): Command => ({
    kind: 'endpoint-detach',
    containerId: parseContainerId(`none-${n}`),
    ifname: parseIfName('eth0')
  })
  await stolen.propose(leader, { kind: 'session-open' }, 'first')
  const first = await stolen.propose(leader, create(1), 'first')
  for (let n = 0; n < SESSIONS; n++) await stolen.propose(leader, { kind: 'session-open' }, `more-${n}`)
  const later = await stolen.propose(leader, create(2), 'first')
  const commits = await world.commits(3, world.host(4))
  return {
    control: {
      ok: first !== 'ERR_SESSION_EXPIRED' && commits === 3,
      figure: `${commits} of 3 commits of an honest client`
    },
    attack: {
      ok: later === 'ERR_SESSION_EXPIRED',
      figure: `its first of ${SESSIONS + 1} sessions: ${first}, then ${later}`
    }
  }
}

/** As a server that leads a term of its own, which the others follow until they elect one of themselves. */
async function disorder(world: World): Promise<Outcome> {
  await giveBack(world)
  const calm = await world.commits(3)
  const leader = await world.leader()
  const thief = world.servers.find(host => host !== leader) ?? world.host(3)
  const others = world.servers.filter(host => host !== thief)
  const pids = others.map(host => host.agentPid)
  const stolen = await Stolen.steal(world, thief)
  try {
    for (let n = 0; n < 3; n++) {
      const { raft } = await leader.status()
      const peers = others.map(host => stolen.peer(host))
      await stolen.ask({ kind: 'disorder', peers, term: raft.term + 1, index: raft.commitIndex })
    }
    const commits = await waitFor('a commit', async () => (await world.commits(1, others[0])) === 1, {
      timeoutMs: 20_000
    }).catch(() => false)
    const ended = others.filter((host, n) => host.agentIsGone || host.agentPid !== pids[n]).map(({ name }) => name)
    return {
      control: { ok: calm === 3, figure: `${calm} of 3 commits before it` },
      attack: {
        ok: ended.length === 0 && commits,
        figure: `${ended.length} agents ended, ${commits ? 'commits go on' : 'no commit'}`
      }
    }
  } finally {
    await stolen.giveBack()
  }
}

async function giveBack(world: World): Promise<void> {
  const stolen = stolenOf.get(world)
  stolenOf.delete(world)
  if (stolen !== undefined) await (await stolen).giveBack()
}

async function after(world: World): Promise<Outcome> {
  await giveBack(world)
  const dead = world.members.filter(host => host.agentIsGone).length
  const all = await world.settled()
  const differing = all.filter(({ differsAt }) => differsAt !== null).length
  const commits = await world.commits(3)
  return {
    control: { ok: commits === 3, figure: `${commits} of 3 commits` },
    attack: {
      ok: dead === 0 && differing === 0,
      figure: `${dead} agents ended, ${all.length} hosts with one state, ${differing} that differed`
    }
  }
}
