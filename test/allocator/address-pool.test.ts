import t from 'tap'
import { addressOfValue, addressPool, defaultGateway, poolValue } from '#allocator/address-pool.ts'
import { addressAt, formatIp, ipv4Of, parseIp, parseSubnet } from '#model/ip.ts'
import { formatIpv4, parseIpv4, type Ipv4 } from '#model/ipv4.ts'

const cases = [
  { subnet: '10.0.0.0/30', gateway: '10.0.0.1', first: '10.0.0.2', usable: 1 },
  { subnet: '10.0.0.0/30', gateway: '10.0.0.2', first: '10.0.0.1', usable: 1 },
  { subnet: '10.0.0.0/24', gateway: '10.0.0.254', first: '10.0.0.1', usable: 253 },
  { subnet: '192.168.7.0/24', gateway: '192.168.7.1', first: '192.168.7.2', usable: 253 },
  { subnet: '172.16.0.0/12', gateway: '172.16.0.1', first: '172.16.0.2', usable: 2 ** 20 - 3 },
  { subnet: '10.0.0.0/8', gateway: '10.0.0.1', first: '10.0.0.2', usable: 2 ** 24 - 3 }
]

for (const { subnet: text, gateway, first, usable } of cases) {
  t.test(`${text} with gateway ${gateway} has ${usable} addresses from ${first}`, t => {
    const subnet = parseSubnet(text)
    const pool = addressPool(subnet, parseIpv4(gateway))
    t.equal(formatIpv4(pool.next() as Ipv4), first)
    const { size, reserved } = pool.use()
    const base = ipv4Of(subnet.base)
    t.equal(size - reserved, usable)
    t.equal(pool.isFree(base), false)
    t.equal(pool.isFree(base + size - 1), false)
    t.equal(pool.isFree(parseIpv4(gateway)), false)
    t.equal(pool.isFree(base - 1), false)
    t.equal(pool.isFree(base + size), false)
    t.end()
  })
}

t.test('every usable address of a subnet is allocated once, then none', t => {
  const subnet = parseSubnet('10.9.8.0/24')
  const pool = addressPool(subnet, defaultGateway(subnet))
  const given: string[] = []
  for (let value = pool.next(); value !== null; value = pool.next()) {
    pool.take(value)
    given.push(formatIpv4(value as Ipv4))
  }
  t.same(
    given,
    [...Array(253).keys()].map(n => `10.9.8.${n + 2}`)
  )
  t.end()
})

const SIX = [
  { subnet: 'fd00:1::/64', gateway: 'fd00:1::1', first: 'fd00:1::2', usable: 2 ** 24 - 2 },
  { subnet: 'fd00:1::/64', gateway: 'fd00:1::100:0', first: 'fd00:1::1', usable: 2 ** 24 - 1 },
  { subnet: 'fd00:1::/64', gateway: 'fd00:1::ff:ffff', first: 'fd00:1::1', usable: 2 ** 24 - 2 },
  { subnet: 'fd00:1::/104', gateway: 'fd00:1::1', first: 'fd00:1::2', usable: 2 ** 24 - 2 },
  { subnet: 'fd00:1::ab00/120', gateway: 'fd00:1::ab01', first: 'fd00:1::ab02', usable: 254 },
  { subnet: 'fd00:1::fffc/126', gateway: 'fd00:1::ffff', first: 'fd00:1::fffd', usable: 2 },
  { subnet: 'fd00::/48', gateway: 'fd00::1', first: 'fd00::2', usable: 2 ** 24 - 2 }
]

for (const { subnet: text, gateway, first, usable } of SIX) {
  t.test(`${text} with gateway ${gateway} gives ${usable} addresses from ${first} by itself`, t => {
    const subnet = parseSubnet(text)
    const pool = addressPool(subnet, parseIp(gateway))
    const next = pool.next()
    t.equal(next === null ? null : formatIp(addressOfValue(subnet, next)), first)
    const { size, reserved } = pool.use()
    t.equal(size - reserved, usable)
    const ofGateway = poolValue(subnet, parseIp(gateway))
    if (ofGateway !== null) t.equal(pool.isFree(ofGateway), false, 'never the gateway')
    t.equal(pool.isFree(0), false, 'never the network address')
    t.equal(pool.isFree(size), false)
    t.equal(pool.isFree(size - 1), ofGateway !== size - 1, 'the last address is like any other')
    t.end()
  })
}

t.test('only the first 2^24 addresses of a larger subnet are in its pool', t => {
  const subnet = parseSubnet('fd00:1::/64')
  for (const [text, value] of [
    ['fd00:1::', 0],
    ['fd00:1::5', 5],
    ['fd00:1::ff:ffff', 2 ** 24 - 1],
    ['fd00:1::100:0', null],
    ['fd00:1::1:0:0:5', null],
    ['fd00:1::ffff:ffff:ffff:ffff', null]
  ] as const) {
    t.equal(poolValue(subnet, parseIp(text)), value, text)
    if (value !== null) t.equal(addressOfValue(subnet, value), parseIp(text))
  }
  const four = parseSubnet('10.1.0.0/16')
  t.equal(poolValue(four, parseIp('10.1.2.3')), 0x0a010203)
  t.equal(addressOfValue(four, 0x0a010203), parseIp('10.1.2.3'))
  t.equal(formatIp(defaultGateway(subnet)), 'fd00:1::1')
  t.end()
})

t.test('a /126 gives both of its addresses, then none, and the freed one last', t => {
  const subnet = parseSubnet('fd00:1::8/126')
  const pool = addressPool(subnet, defaultGateway(subnet))
  const take = (): string | null => {
    const value = pool.next()
    if (value === null) return null
    pool.take(value)
    return formatIp(addressOfValue(subnet, value))
  }
  t.same([take(), take(), take()], ['fd00:1::a', 'fd00:1::b', null])
  pool.release(2)
  t.equal(take(), 'fd00:1::a')
  t.end()
})

t.test('a released address of a /64 is given again after all others have been', t => {
  const subnet = parseSubnet('fd00:1::/64')
  const pool = addressPool(subnet, defaultGateway(subnet))
  for (let n = 2; n < 10; n++) pool.take(n)
  pool.release(4)
  t.equal(pool.next(), 10)
  pool.restoreCursor(2 ** 24 - 1)
  pool.take(2 ** 24 - 1)
  t.equal(pool.next(), 4, 'after the last one')
  t.end()
})

t.test('a /64 takes no more memory than a /104', t => {
  const bytesOf = (text: string): number => {
    const before = process.memoryUsage().arrayBuffers
    const subnet = parseSubnet(text)
    const pools = Array.from({ length: 1_000 }, () => addressPool(subnet, defaultGateway(subnet)))
    for (const pool of pools) pool.take(pool.next() ?? NaN)
    const bytes = process.memoryUsage().arrayBuffers - before
    // They were alive until here.
    t.equal(pools.filter(pool => pool.isFree(2)).length, 0)
    return bytes
  }
  // One chunk of 512 bytes each, and a bit for each of the 4,096 chunks.
  for (const text of ['fd00:1::/104', 'fd00:1::/64', 'fd00:1::/48']) t.ok(bytesOf(text) <= 1_100_000, text)
  t.equal(formatIp(addressAt(parseSubnet('fd00:1::/64'), 2)), 'fd00:1::2')
  t.end()
})
