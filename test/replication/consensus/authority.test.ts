import t from 'tap'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { Authority, UNLISTED_MS } from '#replication/consensus/authority.ts'
import { peer } from '#test/allocator/fixtures.ts'

const [a, b, c, self, stranger] = [1, 2, 3, 4, 9].map(peer) as [PeerId, PeerId, PeerId, PeerId, PeerId]
const ours = '0123456789abcdef' as ClusterId

/** As Serf lists it: every member says that it is a server. */
function member(peerId: PeerId, status: Member['status'] = 'alive'): Member {
  return { peerId, status, role: 'server', clusterId: ours } as Member
}

type World = {
  index?: number
  voters?: readonly PeerId[]
  log?: { voters: readonly PeerId[]; leader?: PeerId }
  members?: readonly Member[]
  /** Those that are connected from an address that this host was told to join. */
  invited?: readonly PeerId[]
}

function authority(p: World): Authority {
  const { index = 7, voters = [a, b, c], log, members = [], invited = [] } = p
  return new Authority({
    self,
    applied: { index: index as LogIndex, configuration: { voters, learners: [] } },
    log: () =>
      log === undefined ? null : { configuration: { voters: log.voters, learners: [] }, leader: log.leader ?? null },
    members: () => members,
    clusterId: () => ours,
    isInvited: peer => invited.includes(peer)
  })
}

t.test('a tag gives no authority to a host that the configuration does not name', async t => {
  const one = authority({ members: [member(a), member(stranger)] })
  t.equal(one.isServer(a), true)
  t.equal(one.isServer(stranger), false)
  t.same(one.servers(), [a])
})

t.test('on a voter the configuration in the log counts before it is committed, beside the applied one', async t => {
  const one = authority({ voters: [a, self], log: { voters: [a, b, self] } })
  t.same(
    [a, b, stranger].map(peer => one.isServer(peer)),
    [true, true, false]
  )
  t.equal(authority({ voters: [a, b], log: { voters: [a] } }).isServer(b), true, 'while its removal is not applied')
})

t.test('the leader of the term keeps its authority until the next one: it may just have removed itself', async t => {
  const one = authority({ voters: [b, self], log: { voters: [b, self], leader: a } })
  t.equal(one.isServer(a), true)
  t.equal(one.isServer(c), false)
})

t.test('a server may name its successors to a host that is behind, nobody else may', async t => {
  const one = authority({ members: [member(a), member(stranger)] })
  one.learn(stranger, { index: 99 as LogIndex, servers: [stranger] })
  t.equal(one.isServer(stranger), false, 'it vouches for itself')
  one.learn(a, { index: 7 as LogIndex, servers: [stranger] })
  t.equal(one.isServer(stranger), false, 'the server has applied no more than this host')
  one.learn(a, { index: 8 as LogIndex, servers: [self, stranger] })
  t.equal(one.isServer(stranger), true)
})

t.test('a host that has applied nothing believes tags while none of the founders is alive', async t => {
  t.equal(authority({ index: 0, members: [member(stranger)] }).isServer(stranger), true)
  t.equal(authority({ index: 0, members: [member(a, 'failed'), member(stranger)] }).isServer(stranger), true)
  t.equal(authority({ index: 0, members: [member(a), member(stranger)] }).isServer(stranger), false)
  t.equal(authority({ index: 1, members: [member(stranger)] }).isServer(stranger), false)
  const other = { ...member(stranger), clusterId: 'f'.repeat(16) as ClusterId }
  t.equal(authority({ index: 0, members: [other] }).isServer(stranger), false, 'a server of another cluster')
})

const UNLISTED = { members: [member(a, 'left'), member(b), member(stranger)], voters: [a, c] }

t.test(
  'when Serf has listed no server of the configuration for long, a server that it was told to join counts',
  async t => {
    const one = authority({ ...UNLISTED, invited: [b] })
    one.review(0)
    one.review(UNLISTED_MS - 1)
    t.equal(one.isServer(b), false)
    one.review(UNLISTED_MS)
    t.equal(one.isServer(b), true)
    t.equal(one.isServer(stranger), false, 'anybody who keeps the servers from being listed')
    t.same(one.servers(), [b])
  }
)

t.test('a host that was told to join nobody, and a voter, wait for their own servers for ever', async t => {
  const voter = { log: { voters: [a, c, self], leader: c }, voters: [a, c, self] }
  for (const world of [UNLISTED, { ...UNLISTED, ...voter, invited: [b] }]) {
    const one = authority(world)
    for (let nowMs = 0; nowMs <= 10 * UNLISTED_MS; nowMs += 500) one.review(nowMs)
    t.equal(one.isServer(b), false)
    t.equal(one.isServer(stranger), false)
  }
})

for (const { claim, world } of [
  {
    claim: 'a server that is listed as failed',
    world: { members: [member(a, 'failed'), member(stranger)], invited: [stranger] }
  },
  {
    claim: 'a sole server, which needs no other,',
    world: { voters: [self], members: [member(stranger)], invited: [stranger] }
  }
]) {
  t.test(`${claim} keeps tags from counting for ever`, async t => {
    const one = authority(world)
    for (let nowMs = 0; nowMs <= 10 * UNLISTED_MS; nowMs += 500) one.review(nowMs)
    t.equal(one.isServer(stranger), false)
  })
}
