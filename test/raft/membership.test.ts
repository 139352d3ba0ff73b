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
  server.give({ kind: 'change', id: 7, change: wanted })
  const refused = server.effects.find(
    (effect): effect is Extract<Effect, { readonly kind: 'refused' }> => effect.kind === 'refused'
  )
  return refused?.reason ?? null
}

t.test('a learner receives the log, does not count, and is promoted once it has caught up', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4'], { founders: ['s1', 's2', 's3'] })
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('before')
  cluster.settle()
  t.equal(change(s1, add('s4')), null)
  cluster.settle('s1', 's2', 's3')
  t.same(s1.state.configuration.learners, ['s4'])
  t.equal(change(s1, promote('s4')), 'not-caught-up')
  cluster.pass(200)
  t.same(cluster.at('s4').applied, s1.applied, 'it has everything')
  s1.propose('without a majority of voters')
  cluster.settle('s1', 's4')
  t.not(s1.state.commitIndex, s1.state.log.lastIndex, 'a learner does not count')
  cluster.pass(200)
  t.equal(change(s1, promote('s4')), null)
  cluster.settle()
  t.same(cluster.at('s4').state.configuration, { voters: ['s1', 's2', 's3', 's4'], learners: [] })
  t.end()
})

t.test('what makes no sense, or comes too early, is refused and changes nothing', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4', 's5'], { founders: ['s1', 's2', 's3'] })
  t.equal(change(cluster.at('s1'), remove('s2')), 'not-leader')
  cluster.stand('s1')
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

t.test('the last voter stays, and so does one without whom there is no majority that answers', t => {
  const single = new Cluster(['s1'])
  single.elect('s1')
  t.equal(change(single.at('s1'), remove('s1')), 'last-voter')
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.pass(700, 's1', 's2')
  t.equal(change(cluster.at('s1'), remove('s2')), 'too-few-alive', 's3 has not answered for long')
  t.equal(change(cluster.at('s1'), remove('s3')), null)
  t.end()
})

t.test('two leaders cannot each change their own configuration (Ongaro 2015)', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4'])
  cluster.elect('s1')
  const [s1, s2] = [cluster.at('s1'), cluster.at('s2')]
  // s1 lets go of s4, and nobody hears of it.
  t.equal(change(s1, remove('s4')), null)
  cluster.take()
  s1.restart()
  cluster.stand('s2', 's2', 's3', 's4')
  // s2 would let go of s1: {s2, s4} of {s2, s3, s4} could commit that, and {s1, s3} of {s1, s2, s3} elect s1.
  t.equal(change(s2, remove('s1')), 'no-own-commit')
  cluster.settle('s2', 's4')
  t.equal(change(s2, remove('s1')), 'no-own-commit', 'two of four are not enough')
  cluster.pass(100, 's2', 's3', 's4')
  t.equal(change(s2, remove('s1')), null)
  t.end()
})

t.test('a configuration that is truncated is undone (canonical/raft#250)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s3')), null)
  t.same(s1.state.configuration.voters, ['s1', 's2'], 'it counts as soon as it is in the log')
  cluster.take()
  s1.restart()
  t.same(s1.state.configuration.voters, ['s1', 's2'])
  cluster.stand('s2', 's2', 's3')
  cluster.pass(100)
  t.same(s1.state.configuration.voters, ['s1', 's2', 's3'])
  t.end()
})

t.test('a leader that is removed goes when that is committed, and another leads at once', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s1')), null)
  t.equal(s1.state.role, 'leader', 'until then it leads, and does not count itself')
  cluster.settle()
  t.equal(s1.state.role, 'follower')
  t.ok(['s2', 's3'].some(id => cluster.at(id).state.role === 'leader'))
  cluster.pass(3_000)
  t.equal(s1.state.role, 'follower', 'it stands no more')
  t.end()
})

t.test('a server that does not know of its removal does not disturb (thesis 4.2.3)', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4'])
  cluster.elect('s1')
  t.equal(change(cluster.at('s1'), remove('s4')), null)
  cluster.settle('s1', 's2', 's3')
  const { term } = cluster.at('s1').state
  for (let n = 0; n < 20; n++) {
    cluster.at('s4').pass(1_000)
    cluster.pass(200, 's1', 's2', 's3')
    cluster.settle()
  }
  t.same([cluster.at('s1').state.role, cluster.at('s1').state.term], ['leader', term])
  t.end()
})

t.test('who is removed by an entry that is not committed still stands: it may be needed (thesis 4.2.2)', t => {
  const cluster = new Cluster(['s1', 's2'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s1')), null)
  cluster.take()
  s1.restart()
  t.same(s1.state.configuration.voters, ['s2'])
  cluster.pass(5_000)
  t.equal(cluster.at('s2').state.role, 'leader', 's2 could not win against the longer log')
  t.same(cluster.at('s2').state.configuration.voters, ['s2'])
  t.end()
})

t.test('a server that lost its disk votes for nobody until it is removed and added again', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.at('s1').propose('kept by s1 and s2')
  cluster.settle('s1', 's2')
  const s2 = cluster.at('s2')
  s2.wipe(17)
  cluster.pass(300, 's1', 's2')
  t.equal(s2.state.log.lastIndex, 0, 'what was meant for its former life is void')
  cluster.at('s1').restart()
  t.throws(() => {
    cluster.stand('s3', 's2', 's3')
  }, 's3 lacks what was acknowledged, and s2 cannot vote for it')
  t.equal(s2.state.votedFor, null)
  s2.pass(5_000)
  t.equal(s2.state.role, 'follower', 'nor does it stand')
  cluster.stand('s1', 's1', 's3')
  cluster.settle('s1', 's3')
  const s1 = cluster.at('s1')
  t.equal(change(s1, remove('s2')), null)
  cluster.pass(100, 's1', 's3')
  t.equal(change(s1, add('s2', 17)), null)
  cluster.pass(300)
  t.equal(change(s1, promote('s2')), null)
  cluster.pass(100)
  t.same(s2.applied, s1.applied)
  t.same(s2.state.configuration, { voters: ['s1', 's3', 's2'], learners: [], incarnations: { s2: 17 } })
  t.end()
})

t.test('a late answer of a former life is not taken for the new one’s', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('x')
  cluster.hand(...cluster.take({ to: 's2' }))
  const late = cluster.take({ from: 's2', kind: 'append-reply' })
  t.ok(late.length > 0)
  cluster.settle('s1', 's3')
  cluster.at('s2').wipe(5)
  t.equal(change(s1, remove('s2')), null)
  cluster.pass(100, 's1', 's3')
  t.equal(change(s1, add('s2', 5)), null)
  cluster.settle('s1', 's3')
  cluster.hand(...late)
  t.equal(s1.state.leading?.progress.get(peer('s2'))?.matchIndex, 0)
  t.end()
})

t.test('a follower that lacks what it had acknowledged is refused, aloud', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  for (const text of ['a', 'b', 'c']) s1.propose(text)
  cluster.pass(200)
  cluster.at('s3').forget(2)
  let told = false
  for (let n = 0; n < 10; n++) {
    s1.pass(50)
    cluster.hand(...cluster.take({ to: 's3' }))
    for (const reply of cluster.take({ from: 's3' })) {
      cluster.hand(reply)
      told ||= s1.kinds().includes('lost-log')
    }
    cluster.settle('s1', 's2')
  }
  t.ok(told)
  t.equal(s1.state.leading?.progress.get(peer('s3'))?.mode, 'lost')
  t.end()
})
