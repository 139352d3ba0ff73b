import t from 'tap'
import { DISJOINT_HOST_ACCESS, RULES, type Request } from '#model/command.ts'
import type { PeerId } from '#model/ids.ts'
import { bindRequest } from '#replication/consensus/propose-rpc.ts'
import { create, peer } from '#test/allocator/fixtures.ts'

const from: PeerId = peer(7)
const claimed: Request = {
  session: 's1',
  seq: 3,
  settledBelow: 2,
  rules: DISJOINT_HOST_ACCESS,
  by: peer(1),
  command: create('red')
}

t.test('a client’s request names the client that was authenticated, and is applied by the leader’s rules', async t => {
  const bound = { ...claimed, session: `${from}/s1`, by: from, rules: RULES }
  t.strictSame(bindRequest(claimed, { from, isServer: false, rules: RULES }), bound)
  const { by: _, rules: __, ...silent } = claimed
  t.strictSame(bindRequest(silent, { from, isServer: false, rules: RULES }), bound, 'also where it names neither')
})

t.test('a server’s request keeps its rules and names no client', async t => {
  const { by: _, ...own } = claimed
  t.strictSame(bindRequest(claimed, { from, isServer: true, rules: RULES }), { ...own, session: `${from}/s1` })
})

t.test('a session id that would fill the state is refused', async t => {
  const long = { ...claimed, session: 'x'.repeat(65) }
  t.throws(() => bindRequest(long, { from, isServer: false, rules: RULES }), { code: 'ERR_INVALID', field: 'session' })
})
