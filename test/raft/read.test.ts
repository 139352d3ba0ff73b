import t from 'tap'
import { Cluster } from './cluster.ts'

t.test('a read waits for replies from a majority to a heartbeat sent after the request', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.advance(100)
  cluster.deliver(...cluster.take({ from: 's1' }))
  const earlier = cluster.take({ kind: 'append-reply' })
  s1.handle({ kind: 'read', id: 5 })
  cluster.deliver(...earlier)
  t.notOk(s1.effectKinds().includes('read-ready'), 'replies to an earlier heartbeat do not confirm it')
  cluster.deliver(...cluster.take({ to: 's2' }))
  cluster.deliver(...cluster.take({ from: 's2' }))
  t.match(s1.effects, [{ kind: 'read-ready', id: 5, index: s1.state.commitIndex }])
  t.end()
})

t.test('a new leader serves reads only after an entry of its own term is committed (thesis 6.4)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.campaign('s1')
  const s1 = cluster.at('s1')
  s1.handle({ kind: 'read', id: 5 })
  t.notOk(s1.effectKinds().includes('read-ready'))
  t.equal(s1.state.leading?.reads[0]?.request, null)
  cluster.settle()
  t.equal(s1.state.leading?.reads.length, 0)
  t.end()
})

t.test('pending reads fail when the leader is deposed, and a follower serves none', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.handle({ kind: 'read', id: 5 })
  s1.advance(450)
  let failed = false
  for (let n = 0; n < 20; n++) {
    s1.advance(50)
    failed ||= s1.effectKinds().includes('read-failed')
  }
  t.ok(failed)
  cluster.at('s2').handle({ kind: 'read', id: 6 })
  t.match(cluster.at('s2').effects, [{ kind: 'read-failed', id: 6 }])
  t.end()
})
