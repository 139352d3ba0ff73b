// The table of Serf's port: who is a member, what a listing shows of what the kernel fills, the codec of its counters.

import t from 'tap'
import { parseIp } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { decodeCounter } from '#overlay/netlink/nftables.ts'
import { desiredFilter } from '#overlay/plan/filter/desired-filter.ts'
import { elementsOf } from '#overlay/plan/filter/element.ts'
import { parseListing } from '#overlay/plan/filter/listing.ts'
import { serfTable } from '#overlay/plan/filter/ruleset.ts'
import { makeHost, peer } from '../../fixtures.ts'

const table = serfTable({ bind: parseIpv4('192.0.2.1'), port: 7946 })
const address = (text: string): ReturnType<typeof parseIpv4> => parseIpv4(text)

t.test('members are the tunnel addresses of the state and the addresses of Serf’s members', t => {
  const peers = new Map([2, 3].map(n => [peer(n), { vtep: makeHost(n).vtep, reach: 'unicast' as const }]))
  const host = { networks: new Map(), peers }
  const members = (memberAddresses?: ReturnType<typeof address>[]): string[] => {
    const more = memberAddresses === undefined ? {} : { memberAddresses }
    return [...elementsOf(table, desiredFilter({ ...host, ...more })).keys()].sort()
  }
  t.strictSame(members(), ['192.0.2.2', '192.0.2.3'], 'before Serf has answered')
  t.strictSame(members([address('192.0.2.2'), address('198.51.100.9')]), ['192.0.2.2', '192.0.2.3', '198.51.100.9'])
  t.end()
})

t.test(
  'each measure is limited for a stranger, for all strangers and for a member, whose limits are at least 16 times',
  t => {
    const rates = (sender: string, pattern: RegExp): readonly number[] => {
      const lines = table.body.split('\n').filter(line => line.includes(`counter name ${sender} drop`))
      return lines.filter(line => pattern.test(line)).map(line => Number(/over (\d+)/.exec(line)?.[1]))
    }
    for (const measure of [/^ *meta l4proto udp /, /^ *tcp flags/, /^ *(update|limit)[^]*mbytes/]) {
      const [stranger = NaN, all = NaN] = rates('stranger', measure)
      const [member = NaN, ...more] = rates('member', measure)
      t.ok(stranger < all && member >= stranger * 16, `${measure}: ${stranger}, ${all}, ${member}`)
      t.strictSame(more, [], 'members have no common limit')
    }
    t.end()
  }
)

t.test('over IPv6 a stranger is a /64, a member its address, and no rule is of IPv4', t => {
  const six = serfTable({ bind: parseIp('fd00::1'), port: 7946 })
  const lines = six.body.split('\n')
  const buckets = (sender: string): readonly string[] => lines.filter(line => line.includes(`update @${sender}_`))
  t.equal(buckets('stranger').length, 3)
  for (const line of buckets('stranger')) t.match(line, '{ ip6 saddr & ffff:ffff:ffff:ffff:: limit rate')
  t.equal(buckets('member').length, 3)
  for (const line of buckets('member')) t.match(line, '{ ip6 saddr limit rate')
  t.match(six.body, 'iifname != "lo" ip6 daddr fd00::1 meta')
  t.notMatch(six.body, /\bip |ipv4/)
  t.notMatch(table.body, /ip6|ipv6/)
  t.end()
})

t.test('what the kernel fills is no difference, a set of another size is one', t => {
  const listing = (size: number, elem: unknown): string => {
    const of = { family: table.family, table: table.name }
    const sets = [
      { set: { ...of, name: 'members', elem: ['192.0.2.2'] } },
      { set: { ...of, name: 'stranger_datagrams', size, ...(elem === null ? {} : { elem }) } }
    ]
    return JSON.stringify({ nftables: [...sets, { counter: { ...of, name: 'stranger', packets: size } }] })
  }
  const { shape, elements } = parseListing(table, listing(4096, null))
  t.strictSame([...elements.keys()], ['192.0.2.2'])
  t.equal(parseListing(table, listing(4096, [{ elem: { val: '203.0.113.9', expires: 59 } }])).shape, shape)
  t.not(parseListing(table, listing(1, null)).shape, shape)
  t.end()
})

t.test('a counter that the kernel has answered with is decoded, and one of another table or malformed is not', t => {
  // Of table vxmesh_serf, name stranger, type 1, 5 packets of 640 bytes; as nfnetlink sends it, with its header.
  const hex =
    '01000000' +
    `10000100${Buffer.from('vxmesh_serf\0').toString('hex')}` +
    `0d000200${Buffer.from('stranger\0').toString('hex')}000000` +
    '0800030000000001' +
    '1c0004800c00010000000000000002800c0002000000000000000005'
  const payload = Buffer.from(hex, 'hex')
  t.strictSame(decodeCounter(table, payload), { name: 'stranger', packets: 5 })
  t.equal(decodeCounter({ name: 'vxmesh_other' }, payload), null)
  t.equal(decodeCounter(table, Buffer.from(hex.replace('0800030000000001', '0800030000000002'), 'hex')), null)
  t.equal(decodeCounter(table, payload.subarray(0, payload.length - 12)), null)
  t.equal(decodeCounter(table, Buffer.from('01000000', 'hex')), null)
  t.end()
})
