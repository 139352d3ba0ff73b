import t from 'tap'
import { addressPool, defaultGateway } from '#allocator/address-pool.ts'
import { parseSubnet } from '#model/ip.ts'
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
    t.equal(size - reserved, usable)
    t.equal(pool.isFree(subnet.base), false)
    t.equal(pool.isFree(subnet.base + size - 1), false)
    t.equal(pool.isFree(parseIpv4(gateway)), false)
    t.equal(pool.isFree(subnet.base - 1), false)
    t.equal(pool.isFree(subnet.base + size), false)
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
