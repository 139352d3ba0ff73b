import t from 'tap'
import type { PeerId, Term } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import { Cluster } from './cluster.ts'

t.test('a vote is on the disk before it is given', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  const s2 = cluster.at('s2')
  s2.holdDisk = true
  cluster.at('s1').pass(550)
  cluster.hand(...cluster.take({ kind: 'pre-vote-request' }))
  cluster.hand(...cluster.take({ kind: 'pre-vote-reply' }))
  const requests = cluster.take({ kind: 'vote-request', to: 's2' })
  cluster.hand(...requests)
  t.same(cluster.take({ kind: 'vote-reply' }), [], 'nothing is said while the disk works')
  s2.sync()
  t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: true, from: 's2' }])
  s2.restart()
  cluster.hand({ ...requests[0], from: 's3' } as Message)
  t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: false, to: 's3' }], 'it remembers after a restart')
  cluster.hand(...requests)
  t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: true, to: 's1' }], 'and gives the same vote again')
  t.end()
})

t.test('answers to an earlier election or pre-vote do not count (cockroach#123297)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  const s1 = cluster.at('s1')
  s1.pass(550)
  cluster.hand(...cluster.take({ kind: 'pre-vote-request' }))
  const preVotes = cluster.take({ kind: 'pre-vote-reply' })
  cluster.hand(...preVotes)
  cluster.hand(...cluster.take({ kind: 'vote-request' }))
  const votes = cluster.take({ kind: 'vote-reply' })
  t.equal(votes.length, 2)
  s1.pass(550)
  t.equal(s1.state.role, 'pre-candidate')
  cluster.hand(...preVotes)
  t.equal(s1.state.role, 'pre-candidate', 'pre-votes of the last round are void')
  cluster.take()
  s1.pass(50)
  s1.give({ kind: 'tick' })
  cluster.hand(...preVotes.map(m => ({ ...m, requestTerm: (s1.state.term + 1) as Term }) as Message))
  t.equal(s1.state.role, 'candidate')
  cluster.hand(...votes)
  t.equal(s1.state.role, 'candidate', 'votes of the last term are void')
  t.end()
})

t.test('who is behind in term can still help another to win, and learns the term (canonical/raft#279)', t => {
  const cluster = new Cluster(['s1', 's2'])
  const s1 = cluster.at('s1')
  // A term that s2 never hears of: its vote requests are lost.
  s1.pass(550)
  cluster.hand(...cluster.take({ kind: 'pre-vote-request' }))
  cluster.hand(...cluster.take({ kind: 'pre-vote-reply' }))
  cluster.take()
  t.same([s1.state.term, cluster.at('s2').state.term], [1, 0])
  cluster.stand('s1')
  t.equal(s1.state.role, 'leader', 'a pre-vote from a lower term counts')
  t.equal(cluster.at('s2').state.term, s1.state.term)
  t.end()
})

t.test('a server that was cut off comes back without any change of leader, a thousand times', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const { term } = cluster.at('s1').state
  const s3 = cluster.at('s3')
  for (let n = 0; n < 1_000; n++) {
    s3.pass(700)
    cluster.take({ from: 's3' })
    cluster.pass(100, 's1', 's2')
    cluster.pass(100)
  }
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term], ['leader', term])
  t.equal(s3.state.leader, 's1')
  t.end()
})

t.test('whoever hears a leader ignores a vote request of a later term, unless the leader wants it', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const { term } = cluster.at('s1').state
  const request = {
    kind: 'vote-request',
    from: 's3' as PeerId,
    to: 's2' as PeerId,
    clusterId: cluster.at('s2').state.clusterId,
    term: (term + 5) as Term,
    incarnation: 0,
    lastIndex: cluster.at('s2').state.log.lastIndex,
    lastTerm: cluster.at('s2').state.log.lastTerm
  } as const
  cluster.hand({ ...request, transfer: false })
  t.equal(cluster.at('s2').state.term, term)
  cluster.hand({ ...request, transfer: true })
  t.equal(cluster.at('s2').state.term, term + 5)
  t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: true }])
  t.end()
})

t.test('after a stall the queue is heard before anybody stands', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s2 = cluster.at('s2')
  s2.standStill(10_000)
  s2.give({ kind: 'tick' })
  t.equal(s2.state.role, 'follower')
  cluster.at('s1').pass(100)
  cluster.settle()
  t.equal(s2.state.leader, 's1')
  t.end()
})

t.test('a message of another cluster changes nothing', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.at('s1').pass(100)
  const before = cluster.at('s2').state.term
  for (const m of cluster.take({ to: 's2' })) {
    cluster.hand({ ...m, term: (m.term + 9) as Term, clusterId: 'other' as Message['clusterId'] })
  }
  t.equal(cluster.at('s2').state.term, before)
  t.end()
})
