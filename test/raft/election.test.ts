import t from 'tap'
import type { PeerId, Term } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import { Cluster } from './cluster.ts'

t.test('a vote is durable before it is sent', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  const s2 = cluster.at('s2')
  s2.holdDisk = true
  cluster.at('s1').advance(550)
  cluster.deliver(...cluster.take({ kind: 'pre-vote-request' }))
  cluster.deliver(...cluster.take({ kind: 'pre-vote-reply' }))
  const requests = cluster.take({ kind: 'vote-request', to: 's2' })
  cluster.deliver(...requests)
  t.same(cluster.take({ kind: 'vote-reply' }), [], 'no reply is sent while the write is in progress')
  s2.sync()
  t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: true, from: 's2' }])
  s2.restart()
  cluster.deliver({ ...requests[0], from: 's3' } as Message)
  t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: false, to: 's3' }], 'the vote survives a restart')
  cluster.deliver(...requests)
  t.match(
    cluster.take({ kind: 'vote-reply' }),
    [{ granted: true, to: 's1' }],
    'the same candidate gets the same vote again'
  )
  t.end()
})

t.test('replies to an earlier election or pre-vote do not count (cockroach#123297)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  const s1 = cluster.at('s1')
  s1.advance(550)
  cluster.deliver(...cluster.take({ kind: 'pre-vote-request' }))
  const preVotes = cluster.take({ kind: 'pre-vote-reply' })
  cluster.deliver(...preVotes)
  cluster.deliver(...cluster.take({ kind: 'vote-request' }))
  const votes = cluster.take({ kind: 'vote-reply' })
  t.equal(votes.length, 2)
  s1.advance(550)
  t.equal(s1.state.role, 'pre-candidate')
  cluster.deliver(...preVotes)
  t.equal(s1.state.role, 'pre-candidate', 'pre-votes of the previous round do not count')
  cluster.take()
  s1.advance(50)
  s1.handle({ kind: 'tick' })
  cluster.deliver(...preVotes.map(m => ({ ...m, requestTerm: (s1.state.term + 1) as Term }) as Message))
  t.equal(s1.state.role, 'candidate')
  cluster.deliver(...votes)
  t.equal(s1.state.role, 'candidate', 'votes of the previous term do not count')
  t.end()
})

t.test('a server in a lower term can still vote, and adopts the higher term (canonical/raft#279)', t => {
  const cluster = new Cluster(['s1', 's2'])
  const s1 = cluster.at('s1')
  // The vote requests are lost, so s2 does not learn of the new term.
  s1.advance(550)
  cluster.deliver(...cluster.take({ kind: 'pre-vote-request' }))
  cluster.deliver(...cluster.take({ kind: 'pre-vote-reply' }))
  cluster.take()
  t.same([s1.state.term, cluster.at('s2').state.term], [1, 0])
  cluster.campaign('s1')
  t.equal(s1.state.role, 'leader', 'a pre-vote from a lower term counts')
  t.equal(cluster.at('s2').state.term, s1.state.term)
  t.end()
})

t.test('a server that was partitioned rejoins without a change of leader, a thousand times', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const { term } = cluster.at('s1').state
  const s3 = cluster.at('s3')
  for (let n = 0; n < 1_000; n++) {
    s3.advance(700)
    cluster.take({ from: 's3' })
    cluster.advance(100, 's1', 's2')
    cluster.advance(100)
  }
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term], ['leader', term])
  t.equal(s3.state.leader, 's1')
  t.end()
})

t.test(
  'a server in contact with its leader ignores a vote request of a later term, unless the leader requested the election',
  t => {
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
    cluster.deliver({ ...request, transfer: false })
    t.equal(cluster.at('s2').state.term, term)
    cluster.deliver({ ...request, transfer: true })
    t.equal(cluster.at('s2').state.term, term + 5)
    t.match(cluster.take({ kind: 'vote-reply' }), [{ granted: true }])
    t.end()
  }
)

t.test('after a stall the queued messages are handled before an election starts', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s2 = cluster.at('s2')
  s2.stall(10_000)
  s2.handle({ kind: 'tick' })
  t.equal(s2.state.role, 'follower')
  cluster.at('s1').advance(100)
  cluster.settle()
  t.equal(s2.state.leader, 's1')
  t.end()
})

t.test('a message of another cluster is ignored', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.at('s1').advance(100)
  const before = cluster.at('s2').state.term
  for (const m of cluster.take({ to: 's2' })) {
    cluster.deliver({ ...m, term: (m.term + 9) as Term, clusterId: 'other' as Message['clusterId'] })
  }
  t.equal(cluster.at('s2').state.term, before)
  t.end()
})
