import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf, hashCursors, hashRows, hashSessions } from '#allocator/digest.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { addressesOf, gatewaysOf, subnetsOf } from '#model/addresses.ts'
import { RULES, type Command, type Outcome, type Request } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { LogIndex, NetworkName } from '#model/ids.ts'
import { isIpv4, subnetContains } from '#model/ip.ts'
import { broadcastAddress } from '#model/ipv4.ts'
import { history, history6, lives } from './arbitraries.ts'
import { attach, brief, Caller, create, detach } from './fixtures.ts'
import { Model, onLine, type Foretold } from './model.ts'

/** Random, since a fixed seed would test the same histories every time; a failure prints the seed. */
const RUNS = { numRuns: 250 }

function told(outcome: Outcome, state: ClusterState): Foretold {
  if (!outcome.ok) return { code: brief(outcome) }
  const { result } = outcome
  if (result.kind === 'network') return { code: 'ok', vni: result.network.vni }
  if (result.kind === 'service') return { code: 'ok', addresses: result.service.addresses.map(onLine) }
  if (result.kind !== 'endpoint') return { code: 'ok' }
  const { address, mac } = result.endpoint
  return { code: 'ok', address: onLine(address), address6: secondOf(state, result.endpoint), mac }
}

/** Its address in the network's second subnet. */
function secondOf(state: ClusterState, endpoint: Endpoint): bigint | null {
  const network = state.network(endpoint.network)
  const [, second] = network === undefined ? [] : addressesOf(network, endpoint)
  return second === undefined ? null : onLine(second)
}

function assertSame(p: {
  readonly foretold: Foretold
  readonly outcome: Outcome
  readonly command: Command
  readonly state: ClusterState
}): void {
  const { foretold, outcome, command, state } = p
  const given = told(outcome, state)
  for (const key of ['code', 'vni', 'address', 'address6', 'mac', 'addresses'] as const) {
    if (key === 'code' || foretold[key] !== undefined) {
      assert.deepEqual(given[key], foretold[key], `${key} of ${JSON.stringify(command)}`)
    }
  }
}

function assertEqualToModel(state: ClusterState, model: Model): void {
  const sorted = (lines: Iterable<string>): string[] => [...lines].sort()
  assert.deepEqual(
    sorted(
      [...state.networks()].map(n => {
        const second = n.subnet6 === undefined ? null : onLine(n.subnet6.base)
        return `${n.name} ${n.vni} ${onLine(n.subnet.base)} ${second} ${onLine(n.gateway)} ${n.egressRate}`
      })
    ),
    sorted(
      model.networks.map(n => {
        return `${n.name} ${n.vni} ${n.range.base} ${n.range6?.base ?? null} ${n.gateway} ${n.egressRate}`
      })
    )
  )
  assert.deepEqual(
    sorted(
      [...state.endpoints()].map(e => {
        const [address, second] = [onLine(e.address), secondOf(state, e)]
        const labels = sorted(Object.entries(e.labels ?? {}).map(String)).join()
        return `${e.network} ${e.containerId} ${e.ifname} ${e.host} ${address} ${second} ${e.mac} ${labels}`
      })
    ),
    sorted(
      model.endpoints.map(e => {
        const labels = sorted([...e.labels].map(String)).join()
        return `${e.network} ${e.container} ${e.ifname} ${e.host} ${e.address} ${model.second(e)} ${e.mac} ${labels}`
      })
    )
  )
  assert.deepEqual(
    sorted([...state.hosts()].map(h => `${h.peerId} ${h.name} ${onLine(h.vtep)} ${h.version}`)),
    sorted(model.hosts.map(h => `${h.peer} ${h.name} ${h.vtep} ${h.version}`))
  )
  assert.equal(state.rules, model.clusterRules)
  assert.deepEqual(
    sorted([...state.namespaces()].map(n => [n.name, n.network, ...n.grants].join(' '))),
    sorted(model.namespaces.map(n => [n.name, n.network, ...n.grants].join(' ')))
  )
  assert.deepEqual(
    sorted(
      [...state.services()].map(s => {
        const own = (s.backends ?? []).some(({ port }) => port !== undefined) ? 'ports ' : ''
        return `${s.network} ${s.name} ${s.addresses.map(onLine).join()} ${JSON.stringify(s.ports)} ${own}${JSON.stringify(s.select ?? s.backends)}`
      })
    ),
    sorted(model.services.map(s => `${s.network} ${s.name} ${s.addresses.join()} ${s.ports} ${s.target}`))
  )
  assert.deepEqual(
    sorted(
      [...state.policies()].map(
        p => `${p.network} ${p.name} ${[p.select, p.closes, p.rules].map(each => JSON.stringify(each)).join(' ')}`
      )
    ),
    sorted(model.policies.map(p => `${p.network} ${p.name} ${p.select} ${p.closes} ${p.rules}`))
  )
}

/** Invariants that hold after any commands. */
function assertInvariants(state: ClusterState): void {
  for (const network of state.networks()) {
    const endpoints = state.endpointsOf(network.name)
    const ofEndpoints = endpoints.flatMap(e => addressesOf(network, e))
    assert.equal(ofEndpoints.length, endpoints.length * subnetsOf(network).length, 'one address a subnet')
    const ofServices = state.servicesOf(network.name).flatMap(s => s.addresses)
    const addresses = [...ofEndpoints, ...ofServices]
    const macs = state.endpointsOf(network.name).map(e => e.mac)
    assert.equal(new Set(addresses).size, addresses.length, 'no address twice in a network')
    assert.equal(new Set(macs).size, macs.length, 'no MAC twice in a network')
    for (const never of [...subnetsOf(network).map(({ base }) => base), ...gatewaysOf(network)]) {
      assert.ok(!addresses.includes(never), 'neither network nor gateway address')
    }
    const { base, prefixLength } = network.subnet
    if (isIpv4(base)) assert.ok(!addresses.includes(broadcastAddress({ base, prefixLength })), 'nor broadcast address')
    const beyond = endpoints.filter(({ address }) => onLine(address) - onLine(base) >= 2n ** 24n)
    const range = { ...network.subnet, prefixLength: Math.max(prefixLength, isIpv4(base) ? 0 : 104) }
    const inPool = ofServices.filter(address => subnetContains(range, address))
    assert.equal(state.addressUse(network.name)?.used, endpoints.length - beyond.length + inPool.length)
  }
  const vnis = [...state.networks()].map(n => n.vni)
  assert.equal(new Set(vnis).size, vnis.length, 'no VNI twice')
  assert.deepEqual(verify(state), [])
}

t.test('answers and state match the naive model for any commands', t => {
  let [carriedOut, refused] = [0, 0]
  const property = fc.property(lives(60), ({ rules, before, after }) => {
    const [caller, model] = [new Caller(), new Model(rules)]
    caller.rules = rules
    for (const command of [...before, ...after]) {
      const foretold = model.apply(command)
      const before = caller.state.tables.hash.value
      const outcome = caller.try(command)
      assertSame({ foretold, outcome, command, state: caller.state })
      assertEqualToModel(caller.state, model)
      assertInvariants(caller.state)
      if (outcome.ok) carriedOut += 1
      else refused += 1
      if (!outcome.ok) assert.deepEqual(caller.state.tables.hash.value, before, 'a refusal changes no row')
    }
  })
  fc.assert(property, RUNS)
  t.ok(carriedOut > 1_000 && refused > 1_000, 'enough commands of both kinds')
  t.end()
})

/** Requests of two sessions in one log, some of them repeated. */
function requestsOf(commands: readonly Command[], repeats: readonly number[]): Request[] {
  const requests: Request[] = ['s1', 's2'].map(session => {
    return { session, seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
  })
  commands.forEach((command, at) => {
    const seq = Math.floor(at / 2) + 1
    requests.push({ session: at % 2 === 0 ? 's1' : 's2', seq, settledBelow: Math.max(0, seq - 4), command })
    const again = requests[2 + ((repeats[at % repeats.length] ?? 0) % (at + 1))]
    if (again !== undefined && at % 3 === 0) requests.push(again)
  })
  return requests
}

const log = fc
  .tuple(fc.oneof(history(60), history6(60)), fc.array(fc.nat(100), { minLength: 1, maxLength: 20 }))
  .map(([commands, repeats]) => requestsOf(commands, repeats))

/** Requests as by the latest rules, of sessions that name their host, some in between of sessions that nobody opened. */
const latestLog = log.map(requests =>
  requests.map((request, at) => {
    const session = at % 17 === 16 ? `h9/${at}` : `h1/${request.session}`
    return { ...request, rules: RULES, session }
  })
)

t.test('two replicas have the same answers and digests, even if one is restored in between', t => {
  const property = fc.property(fc.oneof(log, latestLog), fc.nat(60), (requests, restoreAt) => {
    const one = new ClusterState()
    let two = new ClusterState()
    requests.forEach((request, at) => {
      const index = (at + 1) as LogIndex
      if (at === restoreAt) two = decodeState(JSON.parse(JSON.stringify(encodeState(two))))
      assert.deepEqual(two.apply(index, request), one.apply(index, request))
      assert.equal(digestOf(two), digestOf(one))
    })
    assert.deepEqual(encodeState(two), encodeState(one))
  })
  fc.assert(property, RUNS)
  t.pass()
  t.end()
})

t.test('the incremental digest always equals the digest from scratch, even if the state is restored in between', t => {
  const property = fc.property(fc.oneof(log, latestLog), fc.nat(60), (requests, restoreAt) => {
    let state = new ClusterState()
    requests.forEach((request, at) => {
      if (at === restoreAt) state = decodeState(JSON.parse(JSON.stringify(encodeState(state))))
      state.apply((at + 1) as LogIndex, request)
      const { tables, sessions } = state
      assert.deepEqual(tables.hash.value, hashRows(tables))
      assert.deepEqual(tables.cursors.value, hashCursors(tables))
      assert.deepEqual(sessions.hash, hashSessions(sessions))
    })
  })
  fc.assert(property, RUNS)
  t.pass()
  t.end()
})

t.test('an entry out of order throws and changes nothing', t => {
  const caller = Caller.ready()
  const digest = digestOf(caller.state)
  const request: Request = { session: 's1', seq: 99, settledBelow: 1, command: attach('red', 'c') }
  for (const off of [-1, 0, 2, 1.5, NaN]) {
    t.throws(() => caller.state.apply((caller.index + off) as LogIndex, request), /applying index/)
    t.throws(() => caller.state.skip((caller.index + off) as LogIndex), /applying index/)
  }
  t.equal(digestOf(caller.state), digest)
  caller.state.skip((caller.index + 1) as LogIndex)
  t.not(digestOf(caller.state), digest, 'the digest covers the applied index')
  t.end()
})

t.test('every read method returns what was created', t => {
  const caller = Caller.ready()
  const endpoint = caller.endpoint(attach('red', 'c'))
  const { state } = caller
  t.equal(state.endpoint('c/eth0'), endpoint)
  t.equal(state.endpoint('c/eth1'), undefined)
  t.equal(state.endpoint('c'), undefined)
  t.same(state.endpointsOfContainer(endpoint.containerId), [endpoint])
  t.same(state.endpointsOnHost(endpoint.host), [endpoint])
  t.same(state.endpointsOf('red' as NetworkName), [endpoint])
  t.same(state.endpointsOf('blue' as NetworkName), [])
  t.equal(state.endpointCountOf('red' as NetworkName), 1)
  t.equal(state.endpointCountOf('blue' as NetworkName), 0)
  t.equal(state.networkByVni(endpoint.vni)?.name, 'red')
  t.equal(state.addressUse('blue' as NetworkName), undefined)
  t.same([state.networkCount, state.endpointCount, state.hostCount, state.sessions.size], [1, 1, 2, 1])
  t.end()
})

t.test('a /8 and the VNI pool take less than a tenth of the memory of plain bit vectors', t => {
  const before = process.memoryUsage().arrayBuffers
  const caller = Caller.ready()
  const networks = 10
  for (let n = 0; n < networks; n++) {
    caller.do(create(`n${n}`, { subnet: `${n + 10}.0.0.0/8` }))
    for (let c = 0; c < 20; c++) caller.do(attach(`n${n}`, `c${n}-${c}`))
    caller.do(attach(`n${n}`, `far-${n}`, { address: `${n + 10}.255.255.254` }))
  }
  const plain = ((networks + 1) * 2 ** 24) / 8
  t.ok(process.memoryUsage().arrayBuffers - before < plain / 10)
  t.same(verify(caller.state), [])
  caller.do(detach('far-0'))
  t.same(verify(caller.state), [])
  t.end()
})
