import t from 'tap'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import { createLogger } from '#platform/log.ts'
import type { Participation } from '#replication/consensus/participation.ts'
import { askParticipation, findRemoval, serveParticipation } from '#replication/cluster/participation-rpc.ts'
import type { Rpc } from '#replication/transport/rpc.ts'
import { MemoryCallers } from '../memory-rpc.ts'

const logger = createLogger('silent')
const index = (n: number): LogIndex => n as LogIndex
const OURS = '0123456789abcdef' as ClusterId
const OTHER = 'fedcba9876543210' as ClusterId
const knows = (n: number, member: boolean): Participation => ({ index: index(n), member, servers: [] })

type Known = Participation | 'down' | 'nonsense' | 'of another cluster' | 'of no cluster'

/** Host 0 asks the others, which have applied this. */
async function servers(...known: Known[]): Promise<MemoryCallers> {
  const all = await MemoryCallers.of(known.length + 1)
  for (const [n, each] of known.entries()) {
    const { rpc, mesh } = all.at(n + 1)
    if (each === 'down') await mesh.stop()
    else if (each === 'nonsense') rpc.register('participation', () => Promise.resolve('nonsense'))
    else if (each === 'of another cluster') serve(rpc, { clusterId: OTHER, participation: () => knows(99, false) })
    else if (each === 'of no cluster') serve(rpc, { clusterId: null, participation: () => knows(99, false) })
    else serve(rpc, { participation: () => each })
  }
  return all
}

function serve(
  rpc: Rpc,
  p: {
    readonly clusterId?: ClusterId | null
    readonly participation: (peer: PeerId, incarnation: number) => Participation
  }
): void {
  const { clusterId = OURS, participation } = p
  serveParticipation(rpc, { clusterId: () => clusterId, participation })
}

const find = (all: MemoryCallers, appliedIndex = 3): Promise<LogIndex | null> =>
  all.settle(
    findRemoval(all.at(0).rpc, {
      servers: all.callers.slice(1).map(({ peer }) => peer),
      clusterId: OURS,
      incarnation: 3,
      appliedIndex: () => index(appliedIndex),
      configurationIndex: () => index(5),
      answered: () => undefined,
      logger
    })
  )

for (const { claim, known, found } of [
  { claim: 'a server that has applied the removal settles it', known: [knows(9, false)], found: 9 },
  {
    claim: 'a server at exactly the configuration of this log settles it too',
    known: [knows(5, false)],
    found: 5
  },
  {
    claim: 'a server behind this log may not know yet that this host was added',
    known: [knows(4, false)],
    found: null
  },
  { claim: 'a host that the servers still count as a member was not removed', known: [knows(9, true)], found: null },
  {
    claim: 'after servers that are down, broken or behind the next one is asked',
    known: ['down' as const, 'nonsense' as const, knows(2, false), knows(7, false)],
    found: 7
  },
  {
    claim: 'a host of another cluster, or of none, knows nothing about this one',
    known: ['of another cluster' as const, 'of no cluster' as const],
    found: null
  },
  { claim: 'without a server nothing is known', known: [], found: null }
]) {
  t.test(claim, async t => {
    t.equal(await find(await servers(...known)), found)
  })
}

t.test('a server that has applied no more than this host settles nothing', async t => {
  t.equal(await find(await servers(knows(9, false)), 9), null)
  t.equal(await find(await servers(knows(10, false)), 9), 10)
})

t.test('the answer is about the disk that asks, by its incarnation', async t => {
  const all = await MemoryCallers.of(2)
  const asked: unknown[] = []
  serve(all.at(1).rpc, {
    participation: (peer, incarnation) => {
      asked.push([peer, incarnation])
      return knows(1, true)
    }
  })
  const asking = askParticipation(all.at(0).rpc, { peer: all.at(1).peer, clusterId: OURS, incarnation: 42 })
  t.same(await all.settle(asking), knows(1, true))
  t.same(asked, [[all.at(0).peer, 42]])
})

t.test('malformed questions and answers are refused', async t => {
  const all = await MemoryCallers.of(2)
  const { rpc } = all.at(1)
  serve(rpc, { participation: () => knows(1, true) })
  for (const body of [null, -1, 1.5, '1', {}]) {
    const call = all.at(0).rpc.call({ peer: all.at(1).peer, method: 'participation', body, timeoutMs: 1_000 })
    await t.rejects(all.settle(call), { code: 'ERR_PEER' }, JSON.stringify(body))
  }
  for (const answer of [null, 7, {}, { index: 1 }, { index: -1, member: true }, { index: 1, member: 'yes' }]) {
    rpc.register('participation', () => Promise.resolve(answer))
    const asked = all.settle(askParticipation(all.at(0).rpc, { peer: all.at(1).peer, clusterId: OURS, incarnation: 0 }))
    await t.rejects(asked, { code: 'ERR_PEER' }, JSON.stringify(answer))
  }
})
