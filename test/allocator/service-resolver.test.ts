// The backends that a resolver follows are those that a look at the whole state finds.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { ServiceResolver, type ResolvedService } from '#allocator/service-resolver.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { addressesOf } from '#model/addresses.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import { isVacant } from '#model/host.ts'
import { parseNetworkName, parseServiceName, type NetworkName } from '#model/ids.ts'
import { compareIp, formatIp, isIpv4 } from '#model/ip.ts'
import { matches } from '#model/labels.ts'
import type { Service } from '#model/service.ts'
import { history6 } from './arbitraries.ts'
import {
  attach,
  Caller,
  create,
  detach,
  NEW,
  register,
  relabel,
  remove,
  removeHost,
  reserve,
  serve,
  unserve
} from './fixtures.ts'

const RED = parseNetworkName('red')

/** The endpoints of a service, each looked at. */
function endpointsFor(state: ClusterState, { network, select, backends }: Service): Endpoint[] {
  const row = state.network(network)
  if (row === undefined) return []
  return state.endpointsOf(network).filter(endpoint => {
    const host = state.host(endpoint.host)
    if (host === undefined || isVacant(host)) return false
    if (select !== undefined) return matches(select, labelsOf(endpoint))
    return addressesOf(row, endpoint).some(address => backends?.some(backend => backend.address === address))
  })
}

function resolvedAnew(state: ClusterState, network: NetworkName): string[] {
  const row = state.network(network)
  const all = state.servicesOf(network).flatMap((service): ResolvedService[] =>
    service.addresses.map(vip => {
      const found = endpointsFor(state, service).flatMap(each => (row === undefined ? [] : addressesOf(row, each)))
      const own = found.filter(address => isIpv4(address) === isIpv4(vip)).sort(compareIp)
      const ports = service.ports.map(({ protocol, port, targetPort }) => {
        const { backends: named } = service
        const backends =
          named === undefined
            ? own.map(address => ({ address, port: targetPort }))
            : named
                .filter(({ address }) => own.includes(address))
                .map(({ address, port: other }) => ({ address, port: other ?? targetPort }))
        return { protocol, port, backends }
      })
      return { address: vip, ports, affinitySeconds: service.affinitySeconds }
    })
  )
  return texts(all)
}

function texts(services: readonly ResolvedService[]): string[] {
  return services
    .map(({ address, ports, affinitySeconds }) => {
      const each = ports.map(({ protocol, port, backends }) => {
        return `${protocol} ${port} ${backends.map(one => `${formatIp(one.address)} ${one.port}`).join()}`
      })
      return `${formatIp(address)} ${affinitySeconds} ${each.join('; ')}`
    })
    .sort()
}

t.test('after any commands the resolver has what a look at the whole state finds', t => {
  let backends = 0
  const pauses = fc.array(fc.boolean(), { minLength: 1, maxLength: 40 })
  fc.assert(
    fc.property(history6(160), pauses, fc.nat(160), (commands, asks, restoreAt) => {
      const caller = new Caller()
      caller.rules = Caller.raised().rules
      const { state } = caller
      const resolver = new ServiceResolver(state)
      for (const [at, command] of commands.entries()) {
        caller.try(command)
        if (at === restoreAt) state.become(decodeState(JSON.parse(JSON.stringify(encodeState(state)))))
        if (asks[at % asks.length] !== true) continue
        for (const { name } of state.networks()) {
          const found = resolver.servicesOf(name)
          assert.deepEqual(texts(found), resolvedAnew(state, name))
          assert.equal(resolver.servicesOf(name), found, 'the same list')
          backends += found.flatMap(({ ports }) => ports.flatMap(each => each.backends)).length
          for (const service of state.servicesOf(name)) {
            const ids = (list: readonly Endpoint[]): string[] => list.map(each => each.containerId).sort()
            assert.deepEqual(ids(resolver.endpointsOf(name, service.name)), ids(endpointsFor(state, service)))
          }
        }
      }
    }),
    { numRuns: 300 }
  )
  t.ok(backends > 500, `${backends} backends`)
  t.end()
})

/** red with web, db and three endpoints; the service named has the addresses of two of them. */
function ready(): { caller: Caller; resolver: ServiceResolver; of: (name: string) => ResolvedService | undefined } {
  const caller = Caller.raised()
  for (const [id, app] of [
    ['a', 'web'],
    ['b', 'web'],
    ['c', 'db']
  ] as const)
    caller.do(attach('red', id, { labels: { app } }))
  for (const name of ['web', 'db']) caller.do(serve('red', name))
  caller.do(serve('red', 'named', { backends: ['10.1.0.4', '10.1.0.9:81'] }))
  const resolver = new ServiceResolver(caller.state)
  const of = (name: string): ResolvedService | undefined => {
    const [address] = caller.state.service(RED, parseServiceName(name))?.addresses ?? []
    return resolver.servicesOf(RED).find(each => each.address === address)
  }
  return { caller, resolver, of }
}

t.test('a change leaves the services that it does not concern as they are, the very objects', t => {
  const { caller, of } = ready()
  const [web, db, named] = ['web', 'db', 'named'].map(of)
  caller.do({ ...relabel('a', {}), egressRate: 8_000 })
  caller.do(relabel('a', { tier: 'front' }))
  caller.do(attach('red', 'other'))
  t.same([of('web') === web, of('db') === db, of('named') === named], [true, true, true])
  caller.do(relabel('a', { app: 'db' }))
  t.same([of('web') === web, of('db') === db, of('named') === named], [false, false, true])
  const last = of('db')
  caller.do(attach('red', 'late', { address: '10.1.0.9' }))
  t.same([of('db') === last, of('named') === named], [true, false])
  t.same(
    of('named')?.ports[0]?.backends.map(({ port }) => port),
    [8_080, 81]
  )
  caller.do(reserve('red', 'db', { affinity: 9 }))
  t.match(of('db'), { affinitySeconds: 9, ports: [{ backends: [{}, {}] }] })
  t.end()
})

t.test('a headless service has endpoints, and nothing for the data plane', t => {
  const { caller, resolver } = ready()
  const before = resolver.servicesOf(RED)
  caller.do(serve('red', 'all', { headless: true, ports: [], select: ['app'] }))
  t.same(resolver.servicesOf(RED), before)
  t.equal(resolver.endpointsOf(RED, parseServiceName('all')).length, 3)
  t.same(resolver.endpointsOf(RED, parseServiceName('none')), [])
  t.same(resolver.endpointsOf(parseNetworkName('none'), parseServiceName('web')), [])
  t.end()
})

t.test('a network that lost its services, and one made anew under its name, have theirs alone', t => {
  const { caller, resolver } = ready()
  t.equal(resolver.servicesOf(RED).length, 3)
  for (const name of ['web', 'db', 'named']) caller.do(unserve('red', name))
  t.same(resolver.servicesOf(RED), [])
  caller.do(serve('red', 'web'))
  t.equal(resolver.servicesOf(RED)[0]?.ports[0]?.backends.length, 2)
  caller.do(remove('red', true))
  t.same(resolver.servicesOf(RED), [])
  caller.do(create('red'))
  caller.do(serve('red', 'web'))
  t.match(resolver.servicesOf(RED), [{ ports: [{ backends: [] }] }])
  caller.do(attach('red', 'new', { labels: { app: 'web' } }))
  t.equal(resolver.servicesOf(RED)[0]?.ports[0]?.backends.length, 1)
  t.end()
})

t.test('an endpoint of a removed host is gone; one of a restored backup answers once its host is back', t => {
  const { caller, of } = ready()
  caller.do(attach('red', 'far', { host: 2, labels: { app: 'web' } }))
  t.equal(of('web')?.ports[0]?.backends.length, 3)
  caller.do(removeHost('h2'))
  t.equal(of('web')?.ports[0]?.backends.length, 2)
  const there = new Caller(vacated(caller.state), 's9')
  const resolver = new ServiceResolver(there.state)
  const backends = (): number => resolver.servicesOf(RED).flatMap(({ ports }) => ports[0]?.backends ?? []).length
  t.equal(backends(), 0)
  there.rules = caller.rules
  there.do(register(9, { version: NEW, name: 'h1' }))
  t.equal(backends(), 0)
  for (const id of ['a', 'b']) there.do(attach('red', id, { host: 9 }))
  t.equal(backends(), 2, 'of web')
  there.do(attach('red', 'c', { host: 9 }))
  t.equal(backends(), 4, 'one of db, which is one of named as well')
  there.do(detach('a'))
  t.equal(backends(), 3)
  t.end()
})

t.test('an endpoint among 10,000 is compared with the services of its labels, not with all of 1,000', t => {
  const caller = Caller.raised()
  caller.do(create('big', { subnet: '10.64.0.0/16' }))
  const big = parseNetworkName('big')
  for (let n = 0; n < 10_000; n++) caller.do(attach('big', `c${n}`, { labels: { app: `a${n % 500}` } }))
  for (let n = 0; n < 1_000; n++) caller.do(serve('big', `s${n}`, { select: [`app=a${n % 500}`] }))
  const resolver = new ServiceResolver(caller.state)
  const before = new Set(resolver.servicesOf(big))
  caller.do(relabel('c7', { app: 'a8' }))
  const changed = resolver.servicesOf(big).filter(each => !before.has(each))
  t.equal(changed.length, 4)
  t.end()
})
