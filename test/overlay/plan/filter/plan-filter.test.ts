// What the filters let through, how a listing is read, and what follows from a difference.

import t from 'tap'
import type { MemberStatus } from '#model/member.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { desiredFilter, type DesiredFilter } from '#overlay/plan/filter/desired-filter.ts'
import { elementsOf, isOfPort, parseElement } from '#overlay/plan/filter/element.ts'
import { parseListing, type ObservedTable } from '#overlay/plan/filter/listing.ts'
import { describeFilterOp, filterOps, installScript, planFilter } from '#overlay/plan/filter/plan-filter.ts'
import { filterTables } from '#overlay/plan/filter/ruleset.ts'
import { decodeGeneration, decodeTableName, nextGeneration } from '#overlay/netlink/nftables.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const red = makeNetwork('red', 0xabc)
const mine = makeEndpoint(red, { container: 'a', host: 1, address: '10.1.0.2' })
const theirs = makeEndpoint(red, { container: 'b', host: 2, address: '10.1.0.3' })
const [ports, underlay] = tablesOf(4789)

function tablesOf(port: number) {
  const [first, second] = filterTables({ vtep: parseIpv4('192.0.2.1'), port })
  if (first === undefined || second === undefined) throw new Error('two tables')
  return [first, second] as const
}

function input(statuses: Record<number, MemberStatus> | null, hosts = [1, 2, 3, 4, 5]): DesiredInput {
  return {
    self: peer(1),
    selfVtep: parseIpv4('192.0.2.1'),
    networks: [red],
    endpoints: byNetwork([mine, theirs]),
    hosts: hosts.map(index => makeHost(index)),
    memberStatus:
      statuses === null
        ? null
        : new Map(
            Object.entries(statuses).map(([index, status]): [PeerId, MemberStatus] => [peer(Number(index)), status])
          ),
    overlayMtu: 1450,
    vxlanPort: 4789
  }
}

function filterOf(facts: DesiredInput): DesiredFilter {
  return desiredFilter(desired(facts))
}

t.test('a container of this host passes with its own MAC and address, one of another host has no port here', t => {
  const device = vethName(mine.containerId, mine.ifname)
  t.strictSame([...filterOf(input(null)).ports.values()], [{ device, mac: mine.mac, addresses: [mine.address] }])
  t.end()
})

t.test('a container has an address in each family of its network, and an element for each', t => {
  const both = makeNetwork('red', 0xabc, { subnet6: parseSubnet('fd00:1::/64') })
  const six = makeNetwork('six', 0xdef, { subnet: parseSubnet('fd00:6::/64'), gateway: parseIpv6('fd00:6::1') })
  const far = makeEndpoint(six, { container: 'c', host: 1, address: 'fd00:6::2' })
  const filter = filterOf({ ...input(null), networks: [both, six], endpoints: byNetwork([mine, far]) })
  const [a, c] = [mine, far].map(({ containerId, ifname }) => vethName(containerId, ifname))
  t.strictSame(
    [...elementsOf(ports, filter).values()].map(({ set, text }) => `${set}: ${text}`),
    [
      `ports: ${a} . 02:bc:0a:01:00:02 . 10.1.0.2`,
      `ports6: ${a} . 0x02bc0a010002 . 0xfd000001000000000000000000000002`,
      `ports6: ${c} . 0x${far.mac.replaceAll(':', '')} . 0xfd000006000000000000000000000002`
    ]
  )
  const elements = elementsOf(ports, filter)
  t.equal(installScript(ports, elements).match(/^add element .*$/gm)?.length, 2, 'each goes into its own set')
  t.match(installScript(ports, elements), `add element bridge vxmesh_ports ports6 { ${a} . 0x02bc0a010002 . 0xfd`)
  const key = Buffer.from([...elements.values()][1]?.key ?? []).toString('hex')
  t.equal(key, `${Buffer.from(`${a}\0`).toString('hex')}02bc0a0100020000fd000001000000000000000000000002`)
  t.end()
})

t.test('a host may send from its registration until it leaves: neither a failure nor silence withdraws it', t => {
  const vteps = (facts: DesiredInput): string[] => [...filterOf(facts).vteps].map(formatIp)
  const all = ['192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5']
  t.strictSame(vteps(input(null)), all, 'while the membership is unknown')
  t.strictSame(vteps(input({})), all, 'while the view is empty')
  t.strictSame(vteps(input({ 2: 'alive', 3: 'failed', 4: 'leaving', 5: 'alive' })), all)
  t.strictSame(vteps(input({ 2: 'alive', 3: 'left', 4: 'failed' })), ['192.0.2.2', '192.0.2.4', '192.0.2.5'])
  t.strictSame(vteps(input({ 9: 'alive' }, [1])), [], 'a member that is not registered may not send')
  const thief = { ...input(null), hosts: [makeHost(1), makeHost(2, parseIpv4('192.0.2.1'))] }
  t.strictSame(vteps(thief), [], "nor does one that claims this host's own address")
  t.end()
})

t.test('an element parses back as it was written, and other forms do not parse', t => {
  const filter = filterOf(input(null))
  for (const table of [ports, underlay]) {
    for (const element of elementsOf(table, filter).values()) {
      const listed = table.set === 'ports' ? { concat: element.text.split(' . ') } : element.text
      t.strictSame(parseElement(element.set, listed), element)
    }
  }
  const written = `ve0123456789abc . 0x00bc0a010002 . 0xfd00000100000000000000000000000a`
  for (const mac of [0xbc0a010002, '0xbc0a010002']) {
    const listed = { concat: ['ve0123456789abc', mac, '0xfd00000100000000000000000000000a'] }
    t.equal(parseElement('ports6', listed)?.text, written, 'as a number or in hexadecimal, without leading zeros')
  }
  const odd: readonly unknown[] = [
    null,
    7,
    '192.0.2.256',
    { prefix: { addr: '192.0.2.0', len: 24 } },
    { elem: { val: '192.0.2.2', timeout: 5 } },
    { concat: ['ve0123456789abc', '02:00:00:00:00:01'] },
    { concat: ['ve0123456789abc', 'xx', '10.1.0.2'] },
    { concat: 've0123456789abc' },
    { concat: ['ve0123456789abc', 0x02bc0a010002, '10.1.0.2'] },
    { concat: ['ve0123456789abc', '02:bc:0a:01:00:02', 'fd00::5'] },
    { concat: ['ve0123456789abc', 0x02bc0a010002, 2 ** 60] },
    { concat: ['ve0123456789abc', 0x02bc0a010002, '0xfd000001000000000000000000000002', 1] },
    { concat: ['ve0123456789abc', '0x102bc0a010002', '0xfd000001000000000000000000000002'] }
  ]
  for (const listed of odd) {
    for (const set of ['ports', 'ports6', 'vteps'] as const)
      t.equal(parseElement(set, listed), null, JSON.stringify(listed))
  }
  t.end()
})

t.test("an element's bytes are the registers that the kernel compares", t => {
  const [port] = elementsOf(ports, filterOf(input(null))).values()
  const name = Buffer.concat([Buffer.from(vethName(mine.containerId, mine.ifname)), Buffer.alloc(1)])
  t.equal(Buffer.from(port?.key ?? []).toString('hex'), `${name.toString('hex')}02bc0a01000200000a010002`)
  const [vtep] = elementsOf(underlay, filterOf(input(null))).values()
  t.equal(Buffer.from(vtep?.key ?? []).toString('hex'), 'c0000202')
  t.end()
})

t.test('a port owns the elements of its whole name only', t => {
  const [port] = elementsOf(ports, filterOf(input(null))).values()
  if (port === undefined) throw new Error('no element')
  const device = vethName(mine.containerId, mine.ifname)
  t.ok(isOfPort(port, device))
  t.notOk(isOfPort(port, device.slice(0, -1) as typeof device))
  t.end()
})

const inUnderlay = { family: 'inet', table: 'vxmesh_underlay' }
const listing = (rules: readonly object[], elem: readonly unknown[], others: readonly object[] = []): string =>
  JSON.stringify({
    nftables: [
      { metainfo: { version: '1' } },
      { table: { family: 'inet', name: 'vxmesh_underlay', handle: 3 } },
      { set: { ...inUnderlay, name: 'vteps', handle: 4, size: 5, elem } },
      ...others,
      ...rules.map((rule, i) => ({ rule: { ...inUnderlay, ...rule, handle: i } }))
    ]
  })

t.test('two listings have one shape when only handles, counts and elements differ', t => {
  const drop = (packets: number, handle: number) => ({
    handle,
    expr: [{ counter: { packets, bytes: 9 } }, { drop: null }]
  })
  const a = parseListing(underlay, listing([drop(0, 1)], []))
  t.equal(parseListing(underlay, listing([drop(7, 2)], ['192.0.2.2'])).shape, a.shape)
  t.strictSame([...parseListing(underlay, listing([], ['192.0.2.2'])).elements.keys()], ['192.0.2.2'])
  const foreign = [
    { table: { family: 'ip', name: 'vxmesh_underlay', handle: 9 } },
    { set: { family: 'ip', table: 'vxmesh_underlay', name: 'vteps', elem: ['192.0.2.9'] } },
    { set: { family: 'inet', table: 'other', name: 'vteps', elem: ['192.0.2.9'] } },
    { rule: { family: 'inet', table: 'other', expr: [{ accept: null }] } }
  ]
  t.strictSame(parseListing(underlay, listing([drop(0, 1)], [], foreign)), a, 'other tables do not count')
  const others = [
    listing([], []),
    listing([drop(0, 1), drop(0, 1)], []),
    listing([{ expr: [{ accept: null }] }], []),
    listing([drop(0, 1)], [{ elem: { val: '192.0.2.2', timeout: 5 } }])
  ]
  for (const other of others) t.not(parseListing(underlay, other).shape, a.shape, other)
  t.throws(() => parseListing(underlay, 'no JSON'), SyntaxError)
  t.end()
})

t.test('a plan adds what is missing, deletes what may be removed, and replaces tables that are wrong', t => {
  const observed = (shape: string, ...elements: string[]): ObservedTable => {
    const found = elements.map(text => parseElement('vteps', text))
    return { shape, elements: new Map(found.flatMap(element => (element === null ? [] : [[element.text, element]]))) }
  }
  const state = (found: ObservedTable | null, ...want: string[]) => [
    { table: underlay, shape: 'right', desired: observed('right', ...want).elements, observed: found }
  ]
  const words = (states: ReturnType<typeof state>, may = true) =>
    filterOps(planFilter(states, () => may)).map(describeFilterOp)
  const at = 'set vteps of inet vxmesh_underlay'
  t.strictSame(words(state(observed('right', '192.0.2.2'), '192.0.2.2')), [])
  t.strictSame(words(state(observed('right', '192.0.2.2'), '192.0.2.3')), [
    `add 192.0.2.3 to ${at}`,
    `delete 192.0.2.2 from ${at}`
  ])
  t.strictSame(words(state(observed('right', '192.0.2.2'), '192.0.2.3'), false), [`add 192.0.2.3 to ${at}`])
  t.strictSame(words(state(null, '192.0.2.3')), ['install inet vxmesh_underlay with 1 elements'])
  const [anew] = planFilter(state(observed('wrong', '192.0.2.2'), '192.0.2.3'), () => false).installs
  t.strictSame(
    [...(anew?.elements.keys() ?? [])],
    ['192.0.2.2', '192.0.2.3'],
    'elements that may not be removed are kept'
  )
  t.match(installScript(underlay, anew?.elements ?? new Map()), /^add table.*\ndelete table.*\ntable inet/)
  t.end()
})

t.test('another port of VXLAN is guarded as well as the registered one', t => {
  const [bridge, inet] = tablesOf(8472)
  t.match(bridge.body, 'udp dport != { 68, 4789, 8472 }')
  t.match(inet.body, 'udp dport 8472 goto vxlan')
  t.equal(inet.body.split('udp dport 8472 notrack').length, 3, 'not tracked in either direction')
  t.match(bridge.body, 'udp dport != { 546, 547, 4789, 8472 }', 'over IPv6, too')
  t.match(ports.body, 'udp dport != { 68, 4789 }')
  t.end()
})

t.test('the next generation is never zero, as in the kernel', t => {
  t.equal(nextGeneration(1), 2)
  t.equal(nextGeneration(0xffff_ffff), 1)
  t.end()
})

t.test('replies of nf_tables are decoded, and truncated ones are not', t => {
  const generation = Buffer.from('00000000' + '08000100' + '00000102', 'hex')
  t.equal(decodeGeneration(generation), 0x102)
  for (const length of [0, 3, 4, 8, 11]) t.equal(decodeGeneration(generation.subarray(0, length)), null)
  const named = Buffer.from('00000000' + '07000100' + '76780000', 'hex')
  t.equal(decodeTableName(named), 'vx')
  for (const length of [0, 4, 7]) t.equal(decodeTableName(named.subarray(0, length)), '')
  t.end()
})
