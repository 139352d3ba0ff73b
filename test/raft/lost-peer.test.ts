// Peer-lost hints: they make an election start sooner and never decide one.

import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import { Cluster } from './cluster.ts'

const S1 = 's1' as PeerId
const lost = { kind: 'peer-lost', peer: S1 } as const

/** A cluster in which all servers follow s1. */
function clusterLedByS1(ids: readonly string[] = ['s1', 's2', 's3']): Cluster {
  const cluster = new Cluster(ids)
  cluster.elect('s1')
  cluster.advance(200)
  return cluster
}

t.test('two followers that lost the leader elect another within an election timeout', t => {
  const cluster = clusterLedByS1()
  cluster.at('s2').handle(lost)
  cluster.advance(50, 's2', 's3')
  cluster.at('s3').handle(lost)
  cluster.advance(100, 's2', 's3')
  t.same(
    [cluster.at('s2').state.role, cluster.at('s3').state.role],
    ['follower', 'follower'],
    'a short delay does not start an election'
  )
  cluster.advance(150, 's2', 's3')
  t.equal(['s2', 's3'].filter(id => cluster.at(id).state.role === 'leader').length, 1)
  t.end()
})

t.test(
  'a follower in contact with the leader refuses a candidate that lost it, however many hints that one gets',
  t => {
    const cluster = clusterLedByS1()
    const { term } = cluster.at('s1').state
    const s3 = cluster.at('s3')
    let requests = 0
    for (let n = 0; n < 100; n++) {
      s3.handle(lost)
      s3.advance(50)
      const asked = cluster.take({ kind: 'pre-vote-request' })
      cluster.take({ from: 's3' })
      cluster.advance(50, 's1', 's2')
      requests += asked.length
      cluster.deliver(...asked)
      cluster.deliver(...cluster.take({ kind: 'pre-vote-reply' }))
      cluster.take()
    }
    t.ok(requests > 2, 'it asks for pre-votes')
    t.same([cluster.at('s1').state.role, cluster.at('s1').state.term, s3.state.term], ['leader', term, term])
    t.end()
  }
)

t.test('constant false hints to all servers do not depose a live leader', t => {
  const cluster = clusterLedByS1(['s1', 's2', 's3', 's4', 's5'])
  const { term } = cluster.at('s1').state
  for (let n = 0; n < 200; n++) {
    for (const id of ['s2', 's3', 's4', 's5']) cluster.at(id).handle(lost)
    for (const peer of ['s2', 's3', 's4', 's5']) cluster.at('s1').handle({ kind: 'peer-lost', peer: peer as PeerId })
    cluster.advance(50)
  }
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term], ['leader', term])
  t.end()
})

t.test('a heartbeat ends the suspicion: votes are refused again, and the full election timeout applies', t => {
  const cluster = clusterLedByS1()
  const s2 = cluster.at('s2')
  s2.handle(lost)
  const soonMs = s2.state.electionAtMs - s2.state.nowMs
  t.ok(soonMs >= 200 && soonMs < 400, `${soonMs} ms: two to four heartbeats`)
  cluster.advance(100)
  t.ok(s2.state.electionAtMs - s2.state.nowMs >= 450)
  const { clusterId, term, log } = s2.state
  const ends = { from: 's3' as PeerId, to: 's2' as PeerId, clusterId, incarnation: 0 }
  const facts = { lastIndex: log.lastIndex, lastTerm: log.lastTerm }
  cluster.deliver({ ...ends, kind: 'pre-vote-request', term: (term + 1) as typeof term, ...facts })
  t.match(cluster.take({ kind: 'pre-vote-reply' }), [{ granted: false }])
  t.end()
})

t.test('a repeated hint neither restarts nor shortens the wait', t => {
  const cluster = clusterLedByS1()
  const s2 = cluster.at('s2')
  s2.handle(lost)
  const { electionAtMs } = s2.state
  for (let n = 0; n < 3; n++) {
    s2.advance(50)
    s2.handle(lost)
    t.equal(s2.state.electionAtMs, electionAtMs)
  }
  t.end()
})

t.test('a hint about a peer that does not lead, or to a leader, changes nothing', t => {
  const cluster = clusterLedByS1()
  const s2 = cluster.at('s2')
  const before = s2.state.electionAtMs
  s2.handle({ kind: 'peer-lost', peer: 's3' as PeerId })
  t.equal(s2.state.electionAtMs, before)
  cluster.at('s1').handle({ kind: 'peer-lost', peer: 's2' as PeerId })
  t.same([cluster.at('s1').effects, cluster.at('s1').state.role], [[], 'leader'])
  t.end()
})

t.test('a sole voter leads from its first tick on, one of several voters waits', t => {
  const alone = new Cluster(['s1'])
  alone.at('s1').handle({ kind: 'tick' })
  t.equal(alone.at('s1').state.role, 'leader')
  alone.at('s1').restart()
  alone.at('s1').handle({ kind: 'tick' })
  t.equal(alone.at('s1').state.role, 'leader', 'also after a restart')
  const three = new Cluster(['s1', 's2', 's3'])
  three.at('s1').advance(450)
  t.equal(three.at('s1').state.role, 'follower')
  const outside = new Cluster(['s1'], { founders: ['s9'] })
  outside.at('s1').advance(2_000)
  t.equal(outside.at('s1').state.role, 'follower', 'another server is the sole voter')
  t.end()
})
