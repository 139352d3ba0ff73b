import t from 'tap'
import { Cluster } from './cluster.ts'

t.test('a read waits for a round of answers that were given after it was asked', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.pass(100)
  cluster.hand(...cluster.take({ from: 's1' }))
  const earlier = cluster.take({ kind: 'append-reply' })
  s1.give({ kind: 'read', id: 5 })
  cluster.hand(...earlier)
  t.notOk(s1.kinds().includes('read-ready'), 'answers to an earlier heartbeat prove nothing')
  cluster.hand(...cluster.take({ to: 's2' }))
  cluster.hand(...cluster.take({ from: 's2' }))
  t.match(s1.effects, [{ kind: 'read-ready', id: 5, index: s1.state.commitIndex }])
  t.end()
})

t.test('a new leader reads only after an entry of its own term is committed (thesis 6.4)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.stand('s1')
  const s1 = cluster.at('s1')
  s1.give({ kind: 'read', id: 5 })
  t.notOk(s1.kinds().includes('read-ready'))
  t.equal(s1.state.leading?.reads[0]?.request, null)
  cluster.settle()
  t.equal(s1.state.leading?.reads.length, 0)
  t.end()
})

t.test('reads of a leader that is deposed fail; a follower serves none', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.give({ kind: 'read', id: 5 })
  s1.pass(450)
  let failed = false
  for (let n = 0; n < 20; n++) {
    s1.pass(50)
    failed ||= s1.kinds().includes('read-failed')
  }
  t.ok(failed)
  cluster.at('s2').give({ kind: 'read', id: 6 })
  t.match(cluster.at('s2').effects, [{ kind: 'read-failed', id: 6 }])
  t.end()
})
