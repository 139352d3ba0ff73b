import t from 'tap'
import { Cluster } from './cluster.ts'

t.test('a delayed, shorter request does not truncate the log (canonical/raft#450)', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const [s1, s2] = [cluster.at('s1'), cluster.at('s2')]
  s1.propose('a')
  const late = cluster.take({ to: 's2' })
  cluster.deliver(...late)
  s1.propose('b')
  s1.propose('c')
  cluster.settle()
  const { lastIndex } = s2.state.log
  cluster.deliver(...late)
  t.equal(s2.state.log.lastIndex, lastIndex)
  t.match(cluster.take({ kind: 'append-reply' }), [{ success: true, from: 's2' }])
  t.end()
})

t.test('a conflicting tail is replaced in memory and on disk', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  for (const text of ['x', 'y', 'z']) s1.propose(text)
  cluster.take()
  s1.restart()
  cluster.campaign('s2', 's2', 's3')
  cluster.at('s2').propose('of s2')
  cluster.advance(300)
  t.same([s1.terms, s1.applied], [cluster.at('s2').terms, cluster.at('s2').applied])
  s1.restart()
  t.same(s1.terms, cluster.at('s2').terms)
  t.end()
})

t.test('a reply waits for the disk and acknowledges no more than the request compared', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const [s1, s2] = [cluster.at('s1'), cluster.at('s2')]
  s2.holdDisk = true
  s1.propose('a')
  s1.propose('b')
  const [first] = cluster.take({ to: 's2' })
  if (first?.kind !== 'append-request') throw new Error('no request')
  cluster.deliver(first)
  t.same(cluster.take({ kind: 'append-reply' }), [])
  s2.sync()
  t.match(cluster.take({ kind: 'append-reply' }), [
    { success: true, matchIndex: first.prevIndex + first.entries.length }
  ])
  t.end()
})

t.test('a request of an earlier term is answered with the current term, so that its sender steps down', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const s1 = cluster.at('s1')
  s1.propose('never delivered')
  const old = cluster.take({ to: 's2' })
  cluster.campaign('s3', 's2', 's3')
  cluster.settle('s2', 's3')
  cluster.deliver(...old)
  cluster.deliver(...cluster.take({ to: 's1', kind: 'append-reply' }))
  t.same([s1.state.role, s1.state.term], ['follower', cluster.at('s3').state.term])
  t.end()
})

t.test('the match with a follower many terms behind is found in a few probes, one term per probe', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  for (const id of ['s1', 's2', 's1', 's2']) {
    cluster.campaign(id, 's1', 's2')
    for (let n = 0; n < 20; n++) cluster.at(id).propose('x')
    cluster.settle('s1', 's2')
    cluster.at(id).restart()
  }
  cluster.campaign('s1', 's1', 's2')
  cluster.settle('s1', 's2')
  let refused = 0
  for (let n = 0; n < 20; n++) {
    cluster.at('s1').advance(50)
    cluster.deliver(...cluster.take({ to: 's3' }))
    const replies = cluster.take({ from: 's3' })
    refused += replies.filter(m => m.kind === 'append-reply' && !m.success).length
    cluster.deliver(...replies)
    cluster.settle('s1', 's2')
  }
  t.same(cluster.at('s3').terms, cluster.at('s1').terms)
  t.ok(refused <= 6, `${refused} refusals`)
  t.end()
})
