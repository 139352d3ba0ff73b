import t from 'tap'
import { whyNotAdmitted } from '#allocator/admission.ts'
import { DISJOINT_HOST_ACCESS, RULES, type Command } from '#model/command.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { parseRequest } from '#model/parse-request.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import * as made from './fixtures.ts'

const BY = 2

/**
 * h1 has c1 in red, h2 has c2 in blue and c3 in green, where h1 has c4; namespace n-red is mapped to red, n-blue to blue.
 * Network empty has no endpoints, mapped is mapped and has none.
 */
function ready(): made.Caller {
  const caller = made.Caller.ready(3)
  for (const name of ['blue', 'green', 'empty', 'mapped']) caller.do(made.create(name))
  caller.do(made.attach('red', 'c1', { host: 1 }))
  caller.do(made.attach('blue', 'c2', { host: BY }))
  caller.do(made.attach('green', 'c3', { host: BY }))
  caller.do(made.attach('green', 'c4', { host: 1 }))
  for (const name of ['red', 'blue', 'mapped']) caller.do(made.map(`n-${name}`, name))
  return caller
}

const change = (containerId: string): Command => ({
  kind: 'endpoint-update',
  containerId: parseContainerId(containerId),
  ifname: parseIfName('eth0'),
  ingressRate: 1
})

/** What the request of host h2, or of a server, gives. */
function outcomeOf(command: Command, by: 'client' | 'server', rules = RULES): string {
  const caller = ready()
  const request = { session: caller.session, seq: 99, settledBelow: 99, command }
  const before = made.contents(caller.state)
  const outcome = caller.send({ ...request, ...(by === 'client' ? { by: made.peer(BY) } : {}), rules })
  if (!outcome.ok && made.contents(caller.state) !== before) throw new Error('a refusal changed the state')
  return made.brief(outcome)
}

for (const { what, command, field } of [
  { what: 'registering another host', command: made.register(3, { vtep: '192.0.2.9' }), field: 'peerId' },
  { what: 'registering a host that nobody knows', command: made.register(9), field: 'peerId' },
  { what: 'attaching to another host', command: made.attach('blue', 'new', { host: 1 }), field: 'host' },
  { what: 'detaching from another host', command: made.detach('c1'), field: 'containerId' },
  { what: 'changing an endpoint of another host', command: change('c1'), field: 'containerId' },
  { what: 'removing another host', command: made.removeHost('h3'), field: 'name' },
  { what: 'deleting a network of others by force', command: made.remove('red', true), field: 'name' },
  { what: 'deleting a network shared with others by force', command: made.remove('green', true), field: 'name' }
]) {
  t.test(`a client host is refused ${what}; a server is not`, async t => {
    t.equal(outcomeOf(command, 'client'), `ERR_NOT_ALLOWED ${field}`)
    t.equal(outcomeOf(command, 'server'), 'ok')
    t.equal(outcomeOf(command, 'client', DISJOINT_HOST_ACCESS), 'ok', 'the rules of earlier logs stay as they were')
  })
}

for (const { what, command } of [
  { what: 'register itself', command: made.register(BY, { bootId: 'boot-2' }) },
  { what: 'attach to itself, also in a network of others', command: made.attach('red', 'new', { host: BY }) },
  { what: 'detach its own container', command: made.detach('c2') },
  { what: 'change its own endpoint', command: change('c3') },
  { what: 'create a network', command: made.create('new') },
  { what: 'change a network, also one of others', command: made.update('red', 5) },
  { what: 'delete an empty network', command: made.remove('empty') },
  { what: 'delete a network that only it uses by force', command: made.remove('blue', true) },
  { what: 'delete an empty network that a namespace needs by force', command: made.remove('mapped', true) },
  { what: 'map a namespace', command: made.map('n-red', 'blue') },
  { what: 'unmap a namespace', command: made.unmap('n-red') },
  { what: 'open a namespace', command: made.open('n-new') },
  { what: 'remove itself', command: made.removeHost('h2') }
]) {
  t.test(`a client host may ${what}`, async t => {
    t.equal(outcomeOf(command, 'client'), 'ok')
  })
}

t.test('who requests a change is part of the log, and what is absent is still found to be absent', async t => {
  t.equal(outcomeOf(made.detach('c9'), 'client'), 'ERR_ENDPOINT_NOT_FOUND containerId')
  const request = { session: 's', seq: 1, settledBelow: 1, command: made.detach('c1'), by: made.peer(BY) }
  t.same(parseRequest(decodeMsgpack(encodeMsgpack(request))), request)
  t.throws(() => parseRequest({ ...request, by: 'nobody' }), { code: 'ERR_INVALID' })
})

for (const { what, command, addresses, refused, code = 'ERR_NOT_ALLOWED' } of [
  { what: 'the address that it is connected from', command: made.register(9), addresses: ['192.0.2.9'], refused: null },
  { what: 'the address that it has already', command: made.register(BY), addresses: ['198.51.100.1'], refused: null },
  {
    what: 'an address in a subnet that the servers allow',
    command: made.register(9, { vtep: '10.9.0.7' }),
    addresses: ['192.0.2.9'],
    refused: null
  },
  {
    what: 'the address of another',
    command: made.register(9, { vtep: '192.0.2.1' }),
    addresses: ['192.0.2.9'],
    refused: 'vtep',
    code: 'ERR_ADDRESS_IN_USE'
  },
  {
    what: 'an address outside',
    command: made.register(9, { vtep: '8.8.8.8' }),
    addresses: ['192.0.2.9'],
    refused: 'vtep'
  },
  { what: 'any address without a connection', command: made.register(9), addresses: [], refused: 'vtep' },
  {
    what: 'its address for another host',
    command: made.register(3, { vtep: '192.0.2.9' }),
    addresses: ['192.0.2.9'],
    refused: 'peerId'
  },
  { what: 'a network', command: made.create('new'), addresses: [], refused: null }
]) {
  t.test(`the leader ${refused === null ? 'admits' : 'does not admit'} a client's request for ${what}`, async t => {
    const { state } = ready()
    const sender = command.kind === 'host-register' && refused !== 'peerId' ? command.host.peerId : made.peer(BY)
    const refusal = whyNotAdmitted(state, command, {
      peer: sender,
      addresses: () => addresses.map(text => parseIp(text)),
      vteps: [parseSubnet('10.9.0.0/16')]
    })
    t.equal(refusal === null ? null : made.brief(refusal), refused === null ? null : `${code} ${refused}`)
  })
}

t.test('the refusal of an address says what to configure where', async t => {
  const refusal = whyNotAdmitted(ready().state, made.register(9, { vtep: '10.9.0.7' }), {
    peer: made.peer(9),
    addresses: () => [parseIp('192.0.2.9')],
    vteps: []
  })
  t.match(refusal?.error.message, '10.9.0.7 is not the address that this host is connected from (192.0.2.9)')
  t.match(refusal?.error.message, 'the configuration of every server: overlay: { vteps: [10.9.0.7/32] }')
})
