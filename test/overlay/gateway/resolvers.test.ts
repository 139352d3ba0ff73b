// What the resolvers part decides where no router of ours exists. No kernel is touched; test/namespace/names.test.ts has the rest.

import t from 'tap'
import { Resolvers } from '#overlay/gateway/resolvers.ts'
import { runPart, type Look } from '#overlay/pass.ts'
import type { DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import { gatewaysOf } from './desired.ts'

function lookAt(gateways: DesiredGateways): Look {
  const desired = { host: () => ({ networks: new Map(), peers: new Map<never, never>() }), gateways: () => gateways }
  return { scope: null, trust: false, mayRemove: true, desired }
}

t.test('nothing is opened for a router that is not there, or that is to have no resolver', async t => {
  const part = new Resolvers(() => {
    throw new Error('opened')
  })
  const wanted = gatewaysOf(['10.1.0.2'])
  const routers = new Map([...wanted.routers].map(([vni, router]) => [vni, { ...router, queryRate: 500 }]))
  for (const gateways of [wanted, { ...wanted, routers }]) {
    const { done, problems } = await runPart(part, lookAt(gateways))
    t.same([done, problems], [[], []])
  }
  t.equal(part.size, 0)
})

t.test('closing is a removal, and waits for a state that is current; opening is none', t => {
  const part = new Resolvers(() => ({ close: () => undefined }))
  const [router] = gatewaysOf(['10.1.0.2']).routers.values()
  if (router === undefined) throw new Error('no router')
  const note = part.note({ kind: 'resolver-open', router, netns: '/run/netns/x', repairs: true })
  t.match(note, { removes: false, repairs: true, vni: 1 })
  t.equal(note.text(), 'open the resolver (vni 1)')
  t.match(part.note({ kind: 'resolver-close', vni: router.vni }), { removes: true, repairs: false, vni: 1 })
  t.end()
})

t.test('a resolver that cannot be opened is a problem of its network alone', async t => {
  const part = new Resolvers(() => {
    throw new Error('no room')
  })
  const [router] = gatewaysOf(['10.1.0.2']).routers.values()
  if (router === undefined) throw new Error('no router')
  const op = { kind: 'resolver-open', router, netns: '/proc/self', repairs: false } as const
  const { done, failures } = await part.execute([op])
  t.same(done, [])
  t.match(failures, [{ problem: { vni: 1, effect: 'no names', error: { message: 'no room' } } }])
})
