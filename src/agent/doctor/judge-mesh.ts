// What is wrong between this host and the others: ports, paths, Serf, servers, clocks, copies of the state. Pure.

import { MTU_MIN_IPV6 } from '#model/quantity.ts'
import type { FindingView } from '#model/views.ts'
import type { MeshFacts, PeerAnswer, PeerFacts } from './facts.ts'
import { failed, ok, some, warning } from './finding.ts'

/** Logs and certificates are hard to read across hosts beyond this; nothing of ours depends on it. */
const CLOCK_MS = 1_000
/** How long a flood of Serf's port is reported after its last packet. */
const FLOOD_MS = 300_000

export function judgeMesh(facts: MeshFacts): readonly FindingView[] {
  const alive = facts.peers.filter(({ status }) => status === 'alive')
  return [
    members(facts),
    ownPorts(facts),
    ports(alive),
    tunnels(alive),
    paths(facts, alive),
    agents(alive),
    serf(facts),
    serfFlood(facts),
    quorum(facts)
  ].concat(clocks(alive), digests(facts, alive), duplicates(facts))
}

function members({ peers, unseen }: MeshFacts): FindingView {
  const away = peers.filter(({ status }) => status !== 'alive')
  const more = unseen === 0 ? '' : `, ${unseen} others not looked at`
  if (away.length === 0) return ok('members', `${peers.length} other hosts, all alive${more}`)
  const found = some(away.map(({ name, status }) => `${name} ${status}`))
  return warning('members', `${found}${more}`, 'start their agents, or `vxmesh host remove` what will not come back')
}

function ownPorts({ ownPorts: ports }: MeshFacts): FindingView {
  const closed = ports.filter(({ trouble }) => trouble !== null)
  if (closed.length === 0) return ok('ports.own', `${ports.map(({ what }) => what).join(' and ')} are bound here`)
  const found = some(closed.map(({ what, address, trouble }) => `${what} ${address}: ${trouble ?? ''}`))
  return failed(
    'ports.own',
    found,
    'see the agent’s log; another program may hold the port, or a firewall of this host closes it'
  )
}

function ports(alive: readonly PeerFacts[]): FindingView {
  const closed = alive.flatMap(({ name, ports }) =>
    ports.filter(({ trouble }) => trouble !== null).map(p => `${name} ${p.what} ${p.address}: ${p.trouble ?? ''}`)
  )
  if (closed.length === 0) return ok('ports', `Serf and libp2p can be reached on ${alive.length} hosts`)
  return failed('ports', some(closed), 'open TCP and UDP 7946 and TCP 7947 (or as set) between all hosts')
}

function tunnels(alive: readonly PeerFacts[]): FindingView {
  const tried = alive.flatMap(({ name, tunnel }) => (tunnel === null ? [] : [{ name, ...tunnel }]))
  const silent = tried.filter(({ came }) => came === 0)
  if (silent.length > 0) {
    const found = `nothing comes out of the tunnel on ${some(silent.map(({ name }) => name))}`
    return failed(
      'tunnel',
      found,
      'open UDP 4789 (or as set) between all hosts; see `overlay.port` and `overlay.vtep` on both'
    )
  }
  const lossy = tried.filter(({ sent, came }) => came < sent)
  if (lossy.length > 0) {
    const found = some(lossy.map(({ name, sent, came }) => `${name}: ${came} of ${sent} packets`))
    return warning(
      'tunnel',
      `packets are lost on the path to ${found}`,
      'see the drop counters of the devices on the path'
    )
  }
  return ok(
    'tunnel',
    tried.length === 0 ? 'no host shares a network with this one: not tried' : `VXLAN reaches ${tried.length} hosts`
  )
}

function paths({ overheadBytes, tooNarrow }: MeshFacts, alive: readonly PeerFacts[]): FindingView {
  const tried = alive.flatMap(({ name, path }) => (path === null ? [] : [{ name, ...path }]))
  if (tried.some(({ passes }) => passes === null)) {
    return warning('mtu', 'not tried: ping is not installed', 'install iputils-ping')
  }
  const narrow = tried.filter(({ wanted, passes }) => passes !== null && passes > 0 && passes < wanted)
  if (narrow.length > 0) {
    const found = some(narrow.map(({ name, wanted, passes }) => `to ${name} ${passes ?? 0} of ${wanted} bytes pass`))
    const least = Math.min(...narrow.map(({ passes }) => passes ?? Infinity))
    return failed('mtu', found, `raise the MTU on the path, or set overlay.mtu: ${least - overheadBytes} on all hosts`)
  }
  if (tooNarrow.length > 0) {
    const todo = `raise the MTU of the underlay to ${MTU_MIN_IPV6 + overheadBytes} or more, and that of the networks`
    return failed('mtu', `IPv6 needs an MTU of ${MTU_MIN_IPV6} in ${some(tooNarrow)}`, todo)
  }
  const silent = tried.filter(({ passes }) => passes === 0)
  if (silent.length > 0) {
    const found = `no answer to pings from ${some(silent.map(({ name }) => name))}: the path MTU is unknown`
    return warning('mtu', found, 'let ICMP echo pass between VTEPs to have it measured')
  }
  return ok('mtu', tried.length === 0 ? 'no other host to measure' : `full size passes to ${tried.length} hosts`)
}

function agents(alive: readonly PeerFacts[]): FindingView {
  const silent = alive.flatMap(({ name, answer }) => (typeof answer === 'string' ? [`${name}: ${answer}`] : []))
  if (silent.length === 0) return ok('agents', `${alive.length} other agents answer`)
  return warning(
    'agents',
    some(silent),
    'see the log of the agent there: it hangs, is of an older version, or refuses this host'
  )
}

function serf({ serf: found }: MeshFacts): FindingView {
  if (typeof found === 'string')
    return failed('serf', found, 'see serf/serf.log in dataDir; the agent restarts Serf by itself')
  if (!found.running)
    return failed('serf', 'Serf does not run', 'see serf/serf.log in dataDir; the agent restarts it by itself')
  if (!found.keyed) return warning('serf', 'answers, not encrypted: `insecure` is set', 'make a key: vxmesh keygen')
  if (!found.encrypted)
    return failed('serf', 'answers, but does not encrypt', 'restart the agent and see serf/serf.json')
  return ok('serf', 'answers, encrypted')
}

function serfFlood({ serfDrops: { stranger, member, agoMs } }: MeshFacts): FindingView {
  const id = 'serf.flood'
  if (agoMs === null || agoMs > FLOOD_MS) return ok(id, 'no source exceeds the limits of Serf’s port')
  const found = `${stranger} packets of strangers and ${member} of members dropped, the last one ${seconds(agoMs)} ago`
  return warning(
    id,
    found,
    'close TCP and UDP 7946 to all but hosts; `nft list table inet vxmesh_serf` shows the sources'
  )
}

function quorum({ cluster, trouble, leader, voters }: MeshFacts): FindingView {
  const id = 'quorum'
  if (cluster === null)
    return failed(id, trouble ?? 'this host belongs to no cluster yet', 'see `vxmesh members` and `bootstrapExpect`')
  const alive = voters.filter(voter => voter.alive).length
  const majority = Math.floor(voters.length / 2) + 1
  const down = voters.filter(voter => !voter.alive).map(({ name }) => name)
  const spare = alive - majority
  const found = `leader ${leader ?? 'unknown'}, ${alive} of ${voters.length} servers in reach${down.length === 0 ? '' : `, without ${some(down)}`}`
  const back = 'bring servers back, or restore a backup if a majority is lost for good'
  if (voters.length > 0 && spare < 0) return failed(id, `${found}: no majority`, back)
  if (leader === null) return failed(id, `${found}${trouble === null ? '' : `; ${trouble}`}`, back)
  const bears = `${found}: ${spare} may fail before changes stop`
  if (spare > 0)
    return down.length === 0
      ? ok(id, bears)
      : warning(id, bears, 'bring it back or replace it: vxmesh raft add, raft remove')
  return warning(
    id,
    bears,
    voters.length < 3 ? 'run three servers or five: vxmesh raft add' : 'bring back what is away before another fails'
  )
}

function answers(alive: readonly PeerFacts[]): readonly (PeerAnswer & { readonly name: string })[] {
  return alive.flatMap(({ name, answer }) => (typeof answer === 'string' ? [] : [{ name, ...answer }]))
}

function clocks(alive: readonly PeerFacts[]): FindingView {
  const off = answers(alive).filter(({ clockMs, roundTripMs }) => Math.abs(clockMs) - roundTripMs / 2 > CLOCK_MS)
  if (off.length === 0) return ok('clock', `within ${CLOCK_MS / 1_000} s of ${answers(alive).length} hosts`)
  const found = some(
    off.map(({ name, clockMs }) => `${name} ${clockMs > 0 ? 'ahead' : 'behind'} by ${seconds(clockMs)}`)
  )
  return warning('clock', found, 'run a time service on all hosts; vxmesh itself works with any clock')
}

/** Only copies at the same index can be compared here; DigestCheck compares the others with the leader’s notes. */
function digests({ self, differsAt }: MeshFacts, alive: readonly PeerFacts[]): FindingView {
  const todo = 'a fault of vxmesh: make a `vxmesh report` on both hosts, and trust the majority meanwhile'
  if (differsAt !== null) return failed('state.equal', `differs from the leader’s since log index ${differsAt}`, todo)
  const same = answers(alive).filter(({ index }) => index === self.index)
  const other = same.filter(({ digest }) => digest !== self.digest)
  if (other.length > 0) {
    return failed(
      'state.equal',
      `at log index ${self.index} another state is on ${some(other.map(({ name }) => name))}`,
      todo
    )
  }
  return ok(
    'state.equal',
    `the same as on ${same.length} of ${alive.length} hosts, which are at log index ${self.index}`
  )
}

function duplicates({ duplicates: found }: MeshFacts): FindingView {
  if (found.length === 0) return ok('unique', 'no two members share a name or a VTEP')
  return failed('unique', some(found), 'give each host its own `name` and `overlay.vtep`')
}

function seconds(ms: number): string {
  return `${(Math.abs(ms) / 1_000).toFixed(1)} s`
}
