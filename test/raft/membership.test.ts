import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import type { Change, Effect } from '#raft/types.ts'
import { Cluster, type Server } from './cluster.ts'

const peer = (id: string): PeerId => id as PeerId
const add = (id: string, incarnation = 0): Change => ({ kind: 'add-learner', peer: peer(id), incarnation })
const promote = (id: string): Change => ({ kind: 'promote', peer: peer(id) })
const remove = (id: string): Change => ({ kind: 'remove', peer: peer(id) })

/** @returns why it was refused, or null */
function change(server: Server, wanted: Change): string | null {
  server.handle({ kind: 'change', id: 7, change: wanted })
  const refused = server.effects.find(
    (effect): effect is Extract<Effect, { readonly kind: 'refused' }> => effect.kind === 'refused'
  )
  return refused?.reason ?? null
}

t.test('a learner receives the log, has no vote, and is promoted once it has caught up', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4'], { founders: ['s1', 's2', 's3'] })
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('before')
  cluster.settle()
  t.equal(change(s1, add('s4')), null)
  cluster.settle('s1', 's2', 's3')
  t.same(s1.state.configuration.learners, ['s4'])
  t.equal(change(s1, promote('s4')), 'not-caught-up')
  cluster.advance(200)
  t.same(cluster.at('s4').applied, s1.applied, 'it has caught up')
  s1.propose('without a majority of voters')
  cluster.settle('s1', 's4')
  t.not(s1.state.commitIndex, s1.state.log.lastIndex, 'a learner does not count towards the majority')
  cluster.advance(200)
  t.equal(change(s1, promote('s4')), null)
  cluster.settle()
  t.same(cluster.at('s4').state.configuration, { voters: ['s1', 's2', 's3', 's4'], learners: [] })
  t.end()
})

t.test('an invalid or premature change is refused and has no effect', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4', 's5'], { founders: ['s1', 's2', 's3'] })
  t.equal(change(cluster.at('s1'), remove('s2')), 'not-leader')
  cluster.campaign('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s2')), 'no-own-commit')
  cluster.settle()
  const before = s1.state.configuration
  t.equal(change(s1, add('s2')), 'already-there')
  t.equal(change(s1, promote('s2')), 'already-there')
  t.equal(change(s1, promote('s9')), 'no-such-learner')
  t.equal(change(s1, remove('s9')), 'no-such-peer')
  t.equal(s1.state.configuration, before)
  t.equal(change(s1, add('s4')), null)
  t.equal(change(s1, add('s5')), 'change-under-way')
  cluster.settle()
  t.equal(change(s1, add('s5')), null)
  t.end()
})

t.test('the last voter cannot be removed, nor one whose removal leaves no active majority', t => {
  const single = new Cluster(['s1'])
  single.elect('s1')
  t.equal(change(single.at('s1'), remove('s1')), 'last-voter')
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.advance(700, 's1', 's2')
  t.equal(change(cluster.at('s1'), remove('s2')), 'too-few-alive', 's3 is not active')
  t.equal(change(cluster.at('s1'), remove('s3')), null)
  t.end()
})

t.test('two leaders cannot each change their own configuration (Ongaro 2015)', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4'])
  cluster.elect('s1')
  const [s1, s2] = [cluster.at('s1'), cluster.at('s2')]
  // s1 removes s4, and the entry reaches no other server.
  t.equal(change(s1, remove('s4')), null)
  cluster.take()
  s1.restart()
  cluster.campaign('s2', 's2', 's3', 's4')
  // s2 must not remove s1: {s2, s4} of {s2, s3, s4} could commit that while {s1, s3} of {s1, s2, s3} elect s1.
  t.equal(change(s2, remove('s1')), 'no-own-commit')
  cluster.settle('s2', 's4')
  t.equal(change(s2, remove('s1')), 'no-own-commit', 'two of four are no majority')
  cluster.advance(100, 's2', 's3', 's4')
  t.equal(change(s2, remove('s1')), null)
  t.end()
})

t.test('a truncated configuration is rolled back (canonical/raft#250)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s3')), null)
  t.same(s1.state.configuration.voters, ['s1', 's2'], 'it takes effect as soon as it is appended')
  cluster.take()
  s1.restart()
  t.same(s1.state.configuration.voters, ['s1', 's2'])
  cluster.campaign('s2', 's2', 's3')
  cluster.advance(100)
  t.same(s1.state.configuration.voters, ['s1', 's2', 's3'])
  t.end()
})

t.test('a removed leader steps down once its removal is committed, and another takes over at once', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s1')), null)
  t.equal(s1.state.role, 'leader', 'until then it leads without counting itself')
  cluster.settle()
  t.equal(s1.state.role, 'follower')
  t.ok(['s2', 's3'].some(id => cluster.at(id).state.role === 'leader'))
  cluster.advance(3_000)
  t.equal(s1.state.role, 'follower', 'it never campaigns again')
  t.end()
})

t.test('a removed server that does not know of its removal does not disrupt the cluster (thesis 4.2.3)', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4'])
  cluster.elect('s1')
  t.equal(change(cluster.at('s1'), remove('s4')), null)
  cluster.settle('s1', 's2', 's3')
  const { term } = cluster.at('s1').state
  for (let n = 0; n < 20; n++) {
    cluster.at('s4').advance(1_000)
    cluster.advance(200, 's1', 's2', 's3')
    cluster.settle()
  }
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term], ['leader', term])
  t.end()
})

t.test('a server whose removal is not committed can still campaign (thesis 4.2.2)', t => {
  const cluster = new Cluster(['s1', 's2'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s1')), null)
  cluster.take()
  s1.restart()
  t.same(s1.state.configuration.voters, ['s2'])
  cluster.advance(5_000)
  t.equal(cluster.at('s2').state.role, 'leader', 's2 cannot win against the longer log')
  t.same(cluster.at('s2').state.configuration.voters, ['s2'])
  t.end()
})

t.test('a server with a wiped disk does not vote until it is removed and re-added', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.at('s1').propose('kept by s1 and s2')
  cluster.settle('s1', 's2')
  const s2 = cluster.at('s2')
  s2.wipe(17)
  cluster.advance(300, 's1', 's2')
  t.equal(s2.state.log.lastIndex, 0, 'requests to its previous incarnation are ignored')
  cluster.at('s1').restart()
  t.throws(() => {
    cluster.campaign('s3', 's2', 's3')
  }, 's3 lacks an acknowledged entry, and s2 must not vote for it')
  t.equal(s2.state.votedFor, null)
  s2.advance(5_000)
  t.equal(s2.state.role, 'follower', 'nor does it campaign')
  cluster.campaign('s1', 's1', 's3')
  cluster.settle('s1', 's3')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s2')), null)
  cluster.advance(100, 's1', 's3')
  t.equal(change(s1, add('s2', 17)), null)
  cluster.advance(300)
  t.equal(change(s1, promote('s2')), null)
  cluster.advance(100)
  t.same(s2.applied, s1.applied)
  t.same(s2.state.configuration, { voters: ['s1', 's3', 's2'], learners: [], incarnations: { s2: 17 } })
  t.end()
})

t.test('a late reply of a previous incarnation is ignored', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('x')
  cluster.deliver(...cluster.take({ to: 's2' }))
  const late = cluster.take({ from: 's2', kind: 'append-reply' })
  t.ok(late.length > 0)
  cluster.settle('s1', 's3')
  cluster.at('s2').wipe(5)
  t.equal(change(s1, remove('s2')), null)
  cluster.advance(100, 's1', 's3')
  t.equal(change(s1, add('s2', 5)), null)
  cluster.settle('s1', 's3')
  cluster.deliver(...late)
  t.equal(s1.state.leading?.progress.get(peer('s2'))?.matchIndex, 0)
  t.end()
})

t.test('a follower that lacks acknowledged entries is reported and no longer served', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  for (const text of ['a', 'b', 'c']) s1.propose(text)
  cluster.advance(200)
  cluster.at('s3').loseTail(2)
  let told = false
  for (let n = 0; n < 10; n++) {
    s1.advance(50)
    cluster.deliver(...cluster.take({ to: 's3' }))
    for (const reply of cluster.take({ from: 's3' })) {
      cluster.deliver(reply)
      told ||= s1.effectKinds().includes('lost-log')
    }
    cluster.settle('s1', 's2')
  }
  t.ok(told)
  t.equal(s1.state.leading?.progress.get(peer('s3'))?.mode, 'lost')
  t.end()
})
