import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import { askReadIndex, serveReadIndex } from '#replication/consensus/read-index.ts'
import { MemoryCallers } from '../memory-rpc.ts'

type Read = () => Promise<LogIndex>

/** Host 0 asks host 1; `read` is null where that is not a voter. */
async function asking(read: Read | null): Promise<{ all: MemoryCallers; ask: () => Promise<LogIndex> }> {
  const all = await MemoryCallers.of(2)
  serveReadIndex(all.at(1).rpc, { reader: () => (read === null ? null : { read }), clock: all.manual.clock })
  return { all, ask: () => all.settle(askReadIndex(all.at(0).rpc, all.at(1).peer)) }
}

t.test('the leader’s confirmed commit index is the answer', async t => {
  const { ask } = await asking(() => Promise.resolve(7 as LogIndex))
  t.equal(await ask(), 7)
})

t.test('a leader may ask itself', async t => {
  const { all } = await asking(() => Promise.resolve(7 as LogIndex))
  t.equal(await all.settle(askReadIndex(all.at(1).rpc, all.at(1).peer)), 7)
})

t.test('without a leader there is no answer', async t => {
  const { all } = await asking(null)
  await t.rejects(askReadIndex(all.at(0).rpc, null), { code: 'ERR_NO_QUORUM', message: 'no leader is known' })
})

for (const [what, read, cause] of [
  ['a host that is not a voter', null, 'ERR_NOT_LEADER'],
  [
    'a leader that has stepped down',
    () => Promise.reject(new VxmeshError('ERR_NOT_LEADER', 'this server does not lead')),
    'ERR_NOT_LEADER'
  ],
  ['a leader without a majority', () => new Promise<LogIndex>(() => undefined), 'ERR_TIMEOUT']
] satisfies [string, Read | null, string][]) {
  t.test(`${what} confirms nothing: ERR_NO_QUORUM with the cause`, async t => {
    const { all, ask } = await asking(read)
    await t.rejects(ask(), { code: 'ERR_NO_QUORUM', cause: { code: cause } })
    t.ok(all.manual.clock.nowMs() < 2_500, 'within the timeout of the leader')
  })
}

t.test('a leader that cannot be reached confirms nothing', async t => {
  const { all, ask } = await asking(() => Promise.resolve(7 as LogIndex))
  all.network.cut(all.at(0).peer, all.at(1).peer)
  await t.rejects(ask(), { code: 'ERR_NO_QUORUM', cause: { code: 'ERR_PEER' } })
})

for (const answer of [null, '7', -1, 1.5, 2 ** 60, {}]) {
  t.test(`a malformed answer confirms nothing: ${JSON.stringify(answer)}`, async t => {
    const { all, ask } = await asking(null)
    all.at(1).rpc.register('read-index', () => Promise.resolve(answer))
    await t.rejects(ask(), { code: 'ERR_NO_QUORUM', cause: { code: 'ERR_PEER', message: 'a malformed read index' } })
  })
}
