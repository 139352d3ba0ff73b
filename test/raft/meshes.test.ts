// Partial connectivity: all 1,024 graphs of five servers. If some server reaches a majority, counting itself, a leader
// must be elected and stay (in 2020 such a graph left Cloudflare's etcd without a leader for six hours).

import t from 'tap'
import { Cluster } from './cluster.ts'

const IDS = ['s1', 's2', 's3', 's4', 's5']
const LINKS = IDS.flatMap((a, at) => IDS.slice(at + 1).map(b => [a, b] as const))
const TICK_MS = 50

t.test(
  'in each graph of five servers one leader is elected and stays if some server reaches a majority, and none otherwise',
  t => {
    const bad: string[] = []
    let cores = 0
    for (let graph = 0; graph < 2 ** LINKS.length; graph++) {
      const links = LINKS.filter((_, n) => (graph >> n) % 2 === 1)
      const reach = new Set(links.flatMap(([a, b]) => [`${a} ${b}`, `${b} ${a}`]))
      const hasCore = IDS.some(id => links.filter(link => link.includes(id)).length >= 2)
      if (hasCore) cores += 1
      const cluster = new Cluster(IDS)
      run(cluster, reach, 10_000)
      const [before, terms] = [leadersOf(cluster), termsOf(cluster)]
      run(cluster, reach, 10_000)
      const after = leadersOf(cluster)
      const stays = before.join() === after.join() && terms === termsOf(cluster)
      if (after.length !== (hasCore ? 1 : 0) || (hasCore && !stays)) {
        bad.push(`${links.map(link => link.join('-')).join(' ')}: ${before.join(' ')} then ${after.join(' ')}`)
      }
    }
    t.ok(cores > 900, `${cores} graphs have a server that reaches a majority`)
    t.same(bad, [])
    t.end()
  }
)

function run(cluster: Cluster, reach: ReadonlySet<string>, ms: number): void {
  for (let left = ms; left > 0; left -= TICK_MS) {
    for (const id of IDS) cluster.at(id).advance(TICK_MS)
    for (let message = cluster.wire.shift(); message !== undefined; message = cluster.wire.shift()) {
      if (reach.has(`${message.from} ${message.to}`)) cluster.deliver(message)
    }
  }
}

function leadersOf(cluster: Cluster): string[] {
  return IDS.filter(id => cluster.at(id).state.role === 'leader')
}

function termsOf(cluster: Cluster): string {
  return leadersOf(cluster)
    .map(id => cluster.at(id).state.term)
    .join()
}
