import t from 'tap'
import { Cluster, type Server } from './cluster.ts'

t.test('an entry of an earlier term on a majority is not committed by counting (thesis figure 3.7)', t => {
  const cluster = new Cluster(['s1', 's2', 's3', 's4', 's5'], { options: { maxAppendBytes: 1 } })
  const s1 = cluster.at('s1')
  const s5 = cluster.at('s5')
  cluster.elect('s1')
  t.equal(s1.state.commitIndex, 1, 'the first leader has committed its own first entry')
  // (a) An entry of term 1 reaches only s2, and s1 crashes.
  s1.propose('of s1')
  cluster.settle('s1', 's2')
  t.same(
    [s1.terms, cluster.at('s2').terms],
    [
      [1, 1],
      [1, 1]
    ]
  )
  s1.restart()
  // (b) s5 is elected by s3 and s4, appends an entry that reaches no other server, and crashes.
  cluster.campaign('s5', 's3', 's4', 's5')
  t.same([s5.state.role, s5.terms], ['leader', [1, 2]])
  s5.restart()
  // (c) s1 is elected by s2, s3 and s4. Its old entry reaches s3 and so a majority; its new entry does not.
  cluster.campaign('s1', 's1', 's2', 's3', 's4')
  const s3 = cluster.at('s3')
  for (let n = 0; n < 5 && s3.terms.length < 2; n++) {
    cluster.deliver(...cluster.take({ to: 's3' }))
    cluster.deliver(...cluster.take({ from: 's3' }))
  }
  t.same(
    [s1.terms, cluster.at('s2').terms, s3.terms],
    [
      [1, 1, 3],
      [1, 1],
      [1, 1]
    ]
  )
  t.ok(s1.state.commitIndex < 2, 'it is on a majority and still not committed')
  s1.restart()
  // (d) s5 is elected by s2, s3 and s4, and overwrites it.
  cluster.campaign('s5', 's2', 's3', 's4', 's5')
  cluster.settle('s2', 's3', 's4', 's5')
  t.same([s3.terms, s5.state.commitIndex], [[1, 2, 4], 3])
  t.end()
})

t.test('a leader counts itself only for entries that are durable on its own disk', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.holdDisk = true
  s1.propose('x')
  cluster.settle('s1', 's2')
  t.equal(s1.state.commitIndex, 1, 'one follower and an unfinished write are not a majority')
  s1.sync()
  t.equal(s1.state.commitIndex, 2)
  t.end()
})

t.test('a follower commits no further than the prefix that it has compared with its leader', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  const [s1, s2] = [cluster.at('s1'), cluster.at('s2')]
  cluster.elect('s2')
  s2.propose('never replicated')
  s2.propose('nor this')
  cluster.take()
  s2.restart()
  cluster.campaign('s1', 's1', 's3')
  s1.propose('replicated')
  cluster.settle('s1', 's3')
  const tail = s2.terms.length
  s1.advance(100)
  const heartbeat = cluster.take({ to: 's2', kind: 'append-request' })[0]
  if (heartbeat?.kind !== 'append-request') throw new Error('no heartbeat')
  t.ok(heartbeat.leaderCommit > heartbeat.prevIndex && tail > heartbeat.prevIndex)
  cluster.deliver({ ...heartbeat, entries: [] })
  t.equal(s2.state.commitIndex, heartbeat.prevIndex, 'its tail comes from another leader')
  cluster.settle('s1', 's2')
  t.same(applied(s2), applied(s1))
  t.end()
})

function applied(server: Server): string[] {
  return server.applied.filter(text => text !== 'noop')
}
