import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import { tickDueMs } from '#raft/status.ts'
import { Cluster } from './cluster.ts'

t.test('a leader without replies from a majority steps down within two election timeouts', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.advance(200)
  cluster.at('s1').advance(1_000)
  t.not(cluster.at('s1').state.role, 'leader')
  t.end()
})

t.test('a leader whose disk hangs steps down within two election timeouts and does not campaign', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.holdDisk = true
  s1.propose('x')
  cluster.advance(700)
  t.equal(s1.state.role, 'leader', 'a slow disk does not count as hung')
  cluster.advance(300)
  t.not(s1.state.role, 'leader')
  cluster.advance(3_000)
  t.ok(['s2', 's3'].some(id => cluster.at(id).state.role === 'leader'))
  t.not(s1.state.role, 'leader')
  s1.sync()
  s1.holdDisk = false
  cluster.advance(500)
  t.same(s1.applied, cluster.at('s2').applied, 'it follows once its disk works again')
  t.end()
})

t.test('a disk request that hangs deposes the leader even if the core did not issue it', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.advance(200)
  const s1 = cluster.at('s1')
  const diskBusySinceMs = s1.state.nowMs
  const tick = (ms: number): void => {
    for (let left = ms; left > 0; left -= 50) {
      s1.stall(50)
      s1.handle({ kind: 'tick', diskBusySinceMs })
      for (const id of ['s2', 's3']) cluster.at(id).advance(50)
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

t.test('a tick before one is due does nothing, and one that is due does something', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const [s1, s2] = [cluster.at('s1'), cluster.at('s2')]
  for (let heartbeats = 0; heartbeats < 20; heartbeats++) {
    const leftMs = tickDueMs(s1.state) - s1.state.nowMs
    t.ok(leftMs > 0 && leftMs <= 100, `a heartbeat in ${leftMs} ms`)
    s1.stall(leftMs - 1)
    s1.handle({ kind: 'tick' })
    t.same(s1.effectKinds(), [])
    s1.stall(1)
    s1.handle({ kind: 'tick' })
    t.ok(s1.effectKinds().length > 0)
    cluster.settle()
  }
  const leftMs = tickDueMs(s2.state) - s2.state.nowMs
  s2.stall(Math.floor(leftMs / 2))
  s2.handle({ kind: 'tick' })
  s2.stall(Math.floor(leftMs / 2) - 1)
  s2.handle({ kind: 'tick' })
  t.same([s2.state.role, s2.effectKinds()], ['follower', []])
  s2.stall(2)
  s2.handle({ kind: 'tick' })
  t.equal(s2.state.role, 'pre-candidate')
  s1.handle({ kind: 'transfer', to: 's2' as PeerId })
  t.ok(tickDueMs(s1.state) <= (s1.state.leading?.transfer?.untilMs ?? 0))
  t.end()
})

t.test('a transfer waits until the target has the whole log, and proposals are refused meanwhile', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('x')
  s1.handle({ kind: 'transfer', to: 's2' as PeerId })
  t.same(cluster.take({ kind: 'timeout-now' }), [], 's2 still lacks an entry')
  s1.propose('y')
  t.match(s1.effects, [{ kind: 'refused', reason: 'transferring' }])
  cluster.settle()
  t.same(
    ['s1', 's2', 's3'].map(id => cluster.at(id).state.role),
    ['follower', 'leader', 'follower']
  )
  t.end()
})

t.test('a transfer to a server that does not answer is abandoned after an election timeout', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.handle({ kind: 'transfer', to: 's3' as PeerId })
  cluster.advance(600, 's1', 's2')
  t.equal(s1.state.role, 'leader')
  s1.propose('x')
  t.ok(s1.effectKinds().includes('proposed'))
  s1.handle({ kind: 'transfer', to: 's9' as PeerId })
  t.equal(s1.state.leading?.transfer, null, 'only a voter can be the target')
  t.end()
})

t.test('only the leader of the current term can make a server campaign', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const { clusterId, term } = cluster.at('s1').state
  const ends = { to: 's3' as PeerId, clusterId, term, incarnation: 0 }
  cluster.deliver({ ...ends, kind: 'timeout-now', from: 's2' as PeerId })
  t.equal(cluster.at('s3').state.role, 'follower')
  t.end()
})

t.test('the bytes of uncommitted proposals are bounded', t => {
  const cluster = new Cluster(['s1', 's2', 's3'], { options: { maxUncommittedBytes: 10 } })
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  for (let n = 0; n < 5; n++) s1.propose('0123')
  t.match(s1.effects, [{ kind: 'refused', reason: 'busy' }])
  cluster.settle()
  s1.propose('again')
  t.ok(s1.effectKinds().includes('proposed'))
  t.end()
})
