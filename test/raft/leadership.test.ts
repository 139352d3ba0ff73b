import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import { Cluster } from './cluster.ts'

t.test('a leader that no majority answers steps down within two election timeouts', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.pass(200)
  cluster.at('s1').pass(1_000)
  t.not(cluster.at('s1').state.role, 'leader')
  t.end()
})

t.test('a leader whose disk hangs steps down within two election timeouts, and does not stand', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.holdDisk = true
  s1.propose('x')
  cluster.pass(700)
  t.equal(s1.state.role, 'leader', 'a slow disk is none that hangs')
  cluster.pass(300)
  t.not(s1.state.role, 'leader')
  cluster.pass(3_000)
  t.ok(['s2', 's3'].some(id => cluster.at(id).state.role === 'leader'))
  t.not(s1.state.role, 'leader')
  s1.sync()
  s1.holdDisk = false
  cluster.pass(500)
  t.same(s1.applied, cluster.at('s2').applied, 'when it comes back it follows')
  t.end()
})

t.test('a disk that owes an answer to anybody hangs, also when the consensus has asked for nothing', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.pass(200)
  const s1 = cluster.at('s1')
  const diskBusySinceMs = s1.state.nowMs
  const tick = (ms: number): void => {
    for (let left = ms; left > 0; left -= 50) {
      s1.standStill(50)
      s1.give({ kind: 'tick', diskBusySinceMs })
      for (const id of ['s2', 's3']) cluster.at(id).pass(50)
      cluster.settle()
    }
  }
  tick(700)
  t.equal(s1.state.role, 'leader')
  tick(300)
  t.not(s1.state.role, 'leader', 'within two election timeouts')
  tick(3_000)
  t.ok(['s2', 's3'].some(id => cluster.at(id).state.role === 'leader'))
  t.end()
})

t.test('leadership goes to a voter that has the whole log, and proposals wait for it', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('x')
  s1.give({ kind: 'transfer', to: 's2' as PeerId })
  t.same(cluster.take({ kind: 'timeout-now' }), [], 's2 lacks an entry')
  s1.propose('y')
  t.match(s1.effects, [{ kind: 'refused', reason: 'transferring' }])
  cluster.settle()
  t.same(
    ['s1', 's2', 's3'].map(id => cluster.at(id).state.role),
    ['follower', 'leader', 'follower']
  )
  t.end()
})

t.test('a transfer to a server that does not answer is given up after an election timeout', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.give({ kind: 'transfer', to: 's3' as PeerId })
  cluster.pass(600, 's1', 's2')
  t.equal(s1.state.role, 'leader')
  s1.propose('x')
  t.ok(s1.kinds().includes('proposed'))
  s1.give({ kind: 'transfer', to: 's9' as PeerId })
  t.equal(s1.state.leading?.transfer, null, 'nobody outside the voters is a successor')
  t.end()
})

t.test('only the leader of the term makes a server stand', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const { clusterId, term } = cluster.at('s1').state
  const ends = { to: 's3' as PeerId, clusterId, term, incarnation: 0 }
  cluster.hand({ ...ends, kind: 'timeout-now', from: 's2' as PeerId })
  t.equal(cluster.at('s3').state.role, 'follower')
  t.end()
})

t.test('what clients pile up is bounded', t => {
  const cluster = new Cluster(['s1', 's2', 's3'], { options: { maxUncommittedBytes: 10 } })
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  for (let n = 0; n < 5; n++) s1.propose('0123')
  t.match(s1.effects, [{ kind: 'refused', reason: 'busy' }])
  cluster.settle()
  s1.propose('again')
  t.ok(s1.kinds().includes('proposed'))
  t.end()
})
