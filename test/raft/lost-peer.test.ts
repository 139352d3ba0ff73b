// Word of a lost connection: it makes an election come sooner, and never decides one.

import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import { Cluster } from './cluster.ts'

const S1 = 's1' as PeerId
const lost = { kind: 'peer-lost', peer: S1 } as const

/** Led by s1, whom all follow. */
function led(ids: readonly string[] = ['s1', 's2', 's3']): Cluster {
  const cluster = new Cluster(ids)
  cluster.elect('s1')
  cluster.pass(200)
  return cluster
}

t.test('two that lost the leader have another before an election timeout is over', t => {
  const cluster = led()
  cluster.at('s2').give(lost)
  cluster.pass(50, 's2', 's3')
  cluster.at('s3').give(lost)
  cluster.pass(100, 's2', 's3')
  t.same([cluster.at('s2').state.role, cluster.at('s3').state.role], ['follower', 'follower'], 'late is not lost')
  cluster.pass(150, 's2', 's3')
  t.equal(['s2', 's3'].filter(id => cluster.at(id).state.role === 'leader').length, 1)
  t.end()
})

t.test('whoever hears the leader refuses one that has lost it, however often that one is told', t => {
  const cluster = led()
  const { term } = cluster.at('s1').state
  const s3 = cluster.at('s3')
  let stood = 0
  for (let n = 0; n < 100; n++) {
    s3.give(lost)
    s3.pass(50)
    const asked = cluster.take({ kind: 'pre-vote-request' })
    cluster.take({ from: 's3' })
    cluster.pass(50, 's1', 's2')
    stood += asked.length
    cluster.hand(...asked)
    cluster.hand(...cluster.take({ kind: 'pre-vote-reply' }))
    cluster.take()
  }
  t.ok(stood > 2, 'it asks')
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term, s3.state.term], ['leader', term, term])
  t.end()
})

t.test('false word, told to all and all the time, does not cost a living leader its place', t => {
  const cluster = led(['s1', 's2', 's3', 's4', 's5'])
  const { term } = cluster.at('s1').state
  for (let n = 0; n < 200; n++) {
    for (const id of ['s2', 's3', 's4', 's5']) cluster.at(id).give(lost)
    for (const peer of ['s2', 's3', 's4', 's5']) cluster.at('s1').give({ kind: 'peer-lost', peer: peer as PeerId })
    cluster.pass(50)
  }
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term], ['leader', term])
  t.end()
})

t.test('a sign of life takes the doubt back: the vote is refused again, and the wait is a whole one', t => {
  const cluster = led()
  const s2 = cluster.at('s2')
  s2.give(lost)
  const soonMs = s2.state.electionAtMs - s2.state.nowMs
  t.ok(soonMs >= 200 && soonMs < 400, `${soonMs} ms: from two heartbeats to four`)
  cluster.pass(100)
  t.ok(s2.state.electionAtMs - s2.state.nowMs >= 450)
  const { clusterId, term, log } = s2.state
  const ends = { from: 's3' as PeerId, to: 's2' as PeerId, clusterId, incarnation: 0 }
  const facts = { lastIndex: log.lastIndex, lastTerm: log.lastTerm }
  cluster.hand({ ...ends, kind: 'pre-vote-request', term: (term + 1) as typeof term, ...facts })
  t.match(cluster.take({ kind: 'pre-vote-reply' }), [{ granted: false }])
  t.end()
})

t.test('word that comes again does not begin the wait anew, nor shorten it', t => {
  const cluster = led()
  const s2 = cluster.at('s2')
  s2.give(lost)
  const { electionAtMs } = s2.state
  for (let n = 0; n < 3; n++) {
    s2.pass(50)
    s2.give(lost)
    t.equal(s2.state.electionAtMs, electionAtMs)
  }
  t.end()
})

t.test('word of one that does not lead, and word to a leader, change nothing', t => {
  const cluster = led()
  const s2 = cluster.at('s2')
  const before = s2.state.electionAtMs
  s2.give({ kind: 'peer-lost', peer: 's3' as PeerId })
  t.equal(s2.state.electionAtMs, before)
  cluster.at('s1').give({ kind: 'peer-lost', peer: 's2' as PeerId })
  t.same([cluster.at('s1').effects, cluster.at('s1').state.role], [[], 'leader'])
  t.end()
})

t.test('a sole voter leads from its first tick on, a voter among others waits', t => {
  const alone = new Cluster(['s1'])
  alone.at('s1').give({ kind: 'tick' })
  t.equal(alone.at('s1').state.role, 'leader')
  alone.at('s1').restart()
  alone.at('s1').give({ kind: 'tick' })
  t.equal(alone.at('s1').state.role, 'leader', 'after a restart too')
  const three = new Cluster(['s1', 's2', 's3'])
  three.at('s1').pass(450)
  t.equal(three.at('s1').state.role, 'follower')
  const outside = new Cluster(['s1'], { founders: ['s9'] })
  outside.at('s1').pass(2_000)
  t.equal(outside.at('s1').state.role, 'follower', 'another is the sole voter')
  t.end()
})
