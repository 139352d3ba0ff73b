import t from 'tap'
import type { ClusterId } from '#model/ids.ts'
import { entryToTuple } from '#replication/codec/entry-codec.ts'
import { fetchEntries, serveFetch } from '#replication/feed/fetch.ts'
import { CLUSTER, entries, entry, index, Log } from '../entries.ts'
import { host, introduce, type Host } from '../hosts.ts'

const [asker, server, idle] = await Promise.all([host(t), host(t), host(t)])
introduce(asker, server)
introduce(asker, idle)
const log = new Log(25)
log.serveOn(server)
serveFetch(idle.rpc, () => null)

const fetch = (from: number, cluster: string = CLUSTER, peer: Host = server): Promise<unknown> =>
  fetchEntries(asker.rpc, peer.peer, { clusterId: cluster as ClusterId, from: index(from) })

for (const [from, first, last] of [
  [1, 1, 10],
  [11, 11, 20],
  [25, 25, 25],
  [26, 1, 0],
  [1_000, 1, 0]
] as const) {
  t.test(`a page from ${from} holds what is committed from there, and the commit index`, async t => {
    t.same(await fetch(from), { commitIndex: 25, entries: entries(first, last), firstIndex: 1 })
  })
}

const refused: readonly { what: string; act: () => Promise<unknown>; error: RegExp }[] = [
  { what: 'another cluster', act: () => fetch(1, 'f'.repeat(16)), error: /another cluster/ },
  { what: 'no cluster', act: () => fetch(1, ''), error: /another cluster/ },
  { what: 'a host that is no server', act: () => fetch(1, CLUSTER, idle), error: /not a server/ },
  ...[0, -1, 1.5, NaN, 2 ** 53, '1', null].map(from => {
    return { what: `from ${String(from)}`, act: () => fetch(from as number), error: /malformed fetch request/ }
  }),
  ...[null, 7, 'x', {}, []].map(body => {
    const act = (): Promise<unknown> => asker.rpc.call({ peer: server.peer, method: 'fetch', body, timeoutMs: 5_000 })
    return { what: `the request ${JSON.stringify(body)}`, act, error: /another cluster/ }
  })
]
for (const { what, act, error } of refused) {
  t.test(`refused, and nothing was read: ${what}`, async t => {
    const { asked } = log
    await t.rejects(act(), { code: 'ERR_PEER', message: error })
    t.equal(log.asked, asked)
  })
}

const one = entryToTuple(entry(1))
const answers: readonly { what: string; answer: unknown }[] = [
  ...[null, 7, 'x', {}, [], [5], [5, null], [5, {}]].map(answer => ({ what: JSON.stringify(answer), answer })),
  ...[-1, 1.5, '5', 2 ** 60, null].map(commit => ({ what: `commit index ${String(commit)}`, answer: [commit, []] })),
  { what: 'an entry of text', answer: [5, ['x']] },
  { what: 'an entry of three parts', answer: [5, [one.slice(0, 3)]] },
  { what: 'an entry of five parts', answer: [5, [[...one, 0]]] },
  { what: 'an index below zero', answer: [5, [one.with(0, -1)]] },
  { what: 'an index of text', answer: [5, [one.with(0, '1' as never)]] },
  { what: 'a term of 0.5', answer: [5, [one.with(1, 0.5)]] },
  { what: 'a kind of the future', answer: [5, [one.with(2, 99)]] },
  { what: 'a kind below zero', answer: [5, [one.with(2, -1)]] },
  { what: 'data of text', answer: [5, [one.with(3, 'x' as never)]] },
  { what: 'an entry that is not committed', answer: [5, [one.with(0, 6)]] }
]
for (const { what, answer } of answers) {
  t.test(`an answer that is no page is ERR_PEER: ${what}`, async t => {
    idle.rpc.register('fetch', () => Promise.resolve(answer))
    await t.rejects(fetch(1, CLUSTER, idle), { code: 'ERR_PEER', message: /^a malformed (fetch answer|entry)/ })
  })
}
