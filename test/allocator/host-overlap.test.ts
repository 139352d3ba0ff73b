// Networks that the host reaches never share an address on one host.

import fc from 'fast-check'
import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { SubnetIndex } from '#allocator/subnet-index.ts'
import { FIRST_RULES, RULES, type Command } from '#model/command.ts'
import type { NetworkName } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { broadcastAddress, networkAddress, type Ipv4, type Ipv4Subnet } from '#model/ipv4.ts'
import { parseRequest } from '#model/parse-request.ts'
import { attach, brief, Caller, create, map, open, remove, type Of } from './fixtures.ts'

const reached = (name: string, subnet: string): Of<'network-create'> => ({
  ...create(name, { subnet }),
  hostAccess: true
})

/** Two hosts and network a, 10.5.0.0/24, with hostAccess. */
function ready(): Caller {
  const caller = Caller.ready()
  caller.rules = RULES
  caller.do(reached('a', '10.5.0.0/24'))
  return caller
}

/** As an older agent left it: a and b, both 10.5.0.0/24 with hostAccess. */
function overlapping(): Caller {
  const caller = ready()
  caller.rules = FIRST_RULES
  caller.do(reached('b', '10.5.0.0/24'))
  caller.rules = RULES
  return caller
}

t.test('two networks with hostAccess cannot overlap, in whatever way', t => {
  for (const subnet of ['10.5.0.0/24', '10.5.0.128/25', '10.5.0.0/16', '10.0.0.0/8', '10.5.0.252/30']) {
    const outcome = ready().try(reached('b', subnet))
    t.equal(brief(outcome), 'ERR_ADDRESS_IN_USE subnet', subnet)
    t.match(outcome, { error: { message: /10\.5\.0\.0\/24 of network a: both have hostAccess/ } })
  }
  for (const subnet of ['10.5.1.0/24', '10.4.255.0/24', '11.0.0.0/8']) {
    t.equal(brief(ready().try(reached('b', subnet))), 'ok', subnet)
  }
  t.end()
})

t.test('networks overlap as before unless both have hostAccess', t => {
  const caller = ready()
  t.equal(brief(caller.try(create('b', { subnet: '10.5.0.0/24' }))), 'ok')
  t.equal(brief(caller.try(create('c', { subnet: '10.5.0.0/16' }))), 'ok')
  t.equal(brief(caller.try(reached('d', '10.1.0.0/24'))), 'ok', 'red, without it, has that subnet')
  t.end()
})

t.test('the subnet is free again with the network', t => {
  const caller = ready()
  caller.do(remove('a'))
  t.equal(brief(caller.try(reached('b', '10.5.0.0/25'))), 'ok')
  t.equal(brief(caller.try(reached('a', '10.5.0.0/24'))), 'ERR_ADDRESS_IN_USE subnet')
  t.end()
})

t.test('a restored state refuses the same', t => {
  const caller = new Caller(decodeState(encodeState(ready().state)), 's2')
  caller.rules = RULES
  t.equal(brief(caller.try(reached('b', '10.5.0.0/24'))), 'ERR_ADDRESS_IN_USE subnet')
  t.equal(brief(caller.try(reached('b', '10.6.0.0/24'))), 'ok')
  t.end()
})

t.test('a network made on demand finds a subnet that overlaps none', t => {
  const caller = ready()
  caller.do(reached('b', '10.64.0.0/24'))
  t.match(caller.do(open('shop')), { network: { subnet: parseSubnet('10.64.1.0/24'), hostAccess: true } })
  t.end()
})

t.test('a namespace gets no network whose subnet overlaps, but keeps what it has', t => {
  const caller = overlapping()
  t.equal(brief(caller.try(map('shop', 'b'))), 'ERR_ADDRESS_IN_USE network')
  t.equal(brief(caller.try(map('shop', 'red', 'b'))), 'ERR_ADDRESS_IN_USE network', 'as a grant, too')
  t.equal(brief(caller.try(map('shop', 'red'))), 'ok')
  caller.rules = FIRST_RULES
  caller.do(map('shop', 'b', 'a'))
  caller.rules = RULES
  t.equal(brief(caller.try(map('shop', 'b', 'a', 'red'))), 'ok', 'it had them before')
  t.equal(brief(caller.try(map('bank', 'a'))), 'ERR_ADDRESS_IN_USE network', 'another did not')
  t.end()
})

t.test('where networks overlap already, no host gets an address twice', t => {
  const caller = overlapping()
  t.equal(caller.address('a', 'a1'), '10.5.0.2')
  t.equal(brief(caller.try(attach('b', 'b1', { address: '10.5.0.2' }))), 'ERR_ADDRESS_IN_USE address')
  t.equal(caller.address('b', 'b1'), '10.5.0.3', 'the next one is taken')
  t.equal(caller.address('a', 'a2'), '10.5.0.4', 'and passed over in turn')
  t.equal(brief(caller.try(attach('b', 'b2', { host: 2, address: '10.5.0.2' }))), 'ok', 'another host has it not yet')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a network whose addresses are all held by another on this host is exhausted there', t => {
  const caller = ready()
  caller.rules = FIRST_RULES
  caller.do(reached('b', '10.5.0.0/30'))
  caller.rules = RULES
  caller.do(attach('a', 'a1', { address: '10.5.0.2' }))
  const outcome = caller.try(attach('b', 'b1'))
  t.equal(brief(outcome), 'ERR_SUBNET_EXHAUSTED network')
  t.match(outcome, { error: { message: /another network with hostAccess/ } })
  t.equal(brief(caller.try(attach('b', 'b1', { host: 2 }))), 'ok', 'but not on another host')
  t.end()
})

t.test('a log of an older agent is applied by the rules of its time', t => {
  const commands: readonly Command[] = [
    reached('b', '10.5.0.0/24'),
    attach('a', 'a1', { address: '10.5.0.2' }),
    attach('b', 'b1', { address: '10.5.0.2' }),
    map('shop', 'b')
  ]
  const caller = ready()
  caller.rules = FIRST_RULES
  for (const command of commands) t.equal(brief(caller.try(command)), 'ok', command.kind)
  t.end()
})

t.test('a request names rules that this version knows, or is refused in words', t => {
  const request = { session: 's', seq: 1, settledBelow: 1, command: create('red') }
  t.notOk('rules' in parseRequest(request))
  t.equal(parseRequest({ ...request, rules: RULES }).rules, RULES)
  for (const rules of [0, RULES + 1, 1.5, '2']) {
    t.throws(() => parseRequest({ ...request, rules }), { code: 'ERR_INVALID', field: 'rules' })
  }
  t.throws(() => parseRequest({ ...request, rules: RULES + 1 }), { message: /upgrade this host/ })
  t.end()
})

t.test('the index finds exactly the overlapping subnets', t => {
  const subnet = fc
    .tuple(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 8, max: 30 }))
    .map(([low, prefixLength]): Ipv4Subnet => {
      return { base: networkAddress((0x0a000000 + low * 4) as Ipv4, prefixLength), prefixLength }
    })
  const overlap = (a: Ipv4Subnet, b: Ipv4Subnet): boolean =>
    a.base <= broadcastAddress(b) && b.base <= broadcastAddress(a)
  fc.assert(
    fc.property(fc.array(subnet, { maxLength: 30 }), fc.nat(), subnet, (subnets, seed, asked) => {
      const index = new SubnetIndex()
      const rows = subnets.map((one, at) => ({ name: `n${at}` as NetworkName, subnet: one }))
      for (const { name, subnet } of rows) index.add(name, [subnet])
      const [gone, kept] = [
        rows.filter((_, at) => (seed >> at) % 2 === 1),
        rows.filter((_, at) => (seed >> at) % 2 === 0)
      ]
      for (const { name, subnet } of [...gone, ...gone]) index.remove(name, [subnet])
      const expected = kept.filter(row => overlap(row.subnet, asked)).map(({ name }) => name)
      t.same([...index.overlapping(asked)].sort(), [...expected].sort())
      const overlaps = kept.some((row, at) => kept.slice(0, at).some(other => overlap(row.subnet, other.subnet)))
      t.equal(index.isDisjoint, !overlaps)
    })
  )
  t.end()
})
