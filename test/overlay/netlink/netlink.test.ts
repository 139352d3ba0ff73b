import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { ipv6OfNumber, parseIpv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import {
  addDefaultRoute,
  decodeAddress,
  decodeNetnsId,
  decodeRoute,
  getNetnsId,
  getRouteTo,
  setAddress
} from '#overlay/netlink/address.ts'
import { eachAttribute, readMac, readText, readU32, readU8, Writer } from '#overlay/netlink/bytes.ts'
import * as k from '#overlay/netlink/constants.ts'
import { decodeLink } from '#overlay/netlink/link-info.ts'
import { createBridge, createVeth, createVxlan, setBridgePort, setLink } from '#overlay/netlink/link.ts'
import { decodePolicyCounts, getPolicyCounts } from '#overlay/netlink/xfrm.ts'
import {
  addFloodEntry,
  decodeNeighbour,
  deleteEntry,
  FLOOD_MAC,
  setNeighbour,
  setPortEntry,
  setTunnelEntry
} from '#overlay/netlink/neighbour.ts'

const ipv4 = fc.nat({ max: 0xffffffff }).map(n => n as Ipv4)
const ip: fc.Arbitrary<Ip> = fc.oneof(
  ipv4,
  fc.bigInt({ min: 1n, max: 2n ** 128n - 1n }).map(n => ipv6OfNumber(n))
)
const mac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map(bytes => [...bytes].map(b => b.toString(16).padStart(2, '0')).join(':') as Mac)
const ifindex = fc.integer({ min: 1, max: 0x7fffffff })
const name = fc.stringMatching(/^[a-z0-9]{1,15}$/)
const mtu = fc.integer({ min: 68, max: 65535 })
const u32 = fc.nat({ max: 0xffffffff })

function holds<Values>(property: fc.IProperty<Values>): void {
  fc.assert(property)
}

t.test('a message is right wherever its buffer has to grow', async t => {
  const values = fc.array(fc.tuple(fc.constantFrom('u8', 'u32', 'mac', 'text'), u32, mac, name), { maxLength: 30 })
  holds(
    fc.property(values, values => {
      const writer = new Writer()
      const want = values.map(([kind, number, address, text]) => {
        if (kind === 'u8') writer.attributeU8(1, number & 0xff)
        else if (kind === 'u32') writer.attributeU32(2, number)
        else if (kind === 'mac') writer.attributeMac(3, address)
        else writer.attributeText(4, text)
        return { u8: number & 0xff, u32: number, mac: address, text }[kind]
      })
      const got: unknown[] = []
      eachAttribute(writer.message(0, 0).body, 0, (type, value) => {
        got.push([readU8, readU32, readMac, readText][type - 1]?.(value))
      })
      assert.deepEqual(got, want)
    })
  )
  t.pass()
})

t.test('a VXLAN device decodes to what was requested', async t => {
  const spec = fc.record({
    name,
    vni: fc.nat({ max: 0xffffff }),
    local: ip,
    port: fc.nat({ max: 65535 }),
    ttl: fc.nat({ max: 255 }),
    mtu,
    group: u32,
    master: ifindex
  })
  holds(
    fc.property(spec, spec => {
      const link = decodeLink(createVxlan(spec).body)
      const { vni, local, port, ttl } = spec
      assert.deepEqual(link?.vxlan, { vni, local, port, ttl, learning: false, extra: false })
      assert.deepEqual(
        [link.name, link.kind, link.mtu, link.group, link.master],
        [spec.name, 'vxlan', spec.mtu, spec.group, spec.master]
      )
    })
  )
  t.pass()
})

t.test('a bridge decodes to what was requested', async t => {
  holds(
    fc.property(fc.record({ name, mac, mtu, group: u32 }), spec => {
      const link = decodeLink(createBridge(spec).body)
      assert.deepEqual(
        [link?.name, link?.mac, link?.mtu, link?.group, link?.kind, link?.multicastSnooping],
        [spec.name, spec.mac, spec.mtu, spec.group, 'bridge', false]
      )
    })
  )
  t.pass()
})

t.test('settings change only what they name', async t => {
  const settings = fc.record(
    {
      alias: fc.string({ maxLength: 80 }).filter(s => !s.includes('\0')),
      group: u32,
      mtu,
      mac,
      master: ifindex,
      up: fc.boolean()
    },
    { requiredKeys: [] }
  )
  holds(
    fc.property(ifindex, settings, (index, settings) => {
      const message = setLink(index, settings)
      const link = decodeLink(message.body)
      assert.equal(message.flags, 0, 'never creates')
      assert.equal(link?.ifindex, index)
      assert.equal(link.alias, settings.alias ?? '')
      assert.equal(link.mtu, settings.mtu ?? 0)
      assert.equal(link.mac, settings.mac ?? null)
      assert.equal(link.up, settings.up ?? false)
      assert.equal(link.name, '')
      const change = new DataView(message.body.buffer, message.body.byteOffset).getUint32(12, true)
      assert.equal(change, settings.up === undefined ? 0 : k.IFF_UP)
    })
  )
  t.match(decodeLink(setLink(7, { addrGenNone: true }).body), { addrGenNone: true, ipv6Disabled: null })
})

t.test('bridge port flags are read back', async t => {
  for (const [learning, unicastFlood, neighSuppress] of [
    [true, false, false],
    [false, true, false],
    [false, false, true]
  ] as const) {
    const flags = { learning, unicastFlood, neighSuppress }
    t.strictSame(decodeLink(setBridgePort(3, flags).body)?.bridgePort, { ...flags, isolated: null })
  }
})

t.test('the peer of a veth carries its own name, MAC, MTU and namespace', async t => {
  const peer = { name: 'eth0', mac: '02:00:0a:00:00:05' as Mac, netnsFd: 33 }
  const { body } = createVeth({ name: 've0123456789abc', mtu: 1450, group: 1, peer })
  const find = (bytes: Uint8Array, from: number, type: number): Uint8Array => {
    let found = new Uint8Array()
    eachAttribute(bytes, from, (t, value) => {
      if (t === type) found = new Uint8Array(value)
    })
    return found
  }
  const inner = find(find(find(body, 16, k.IFLA_LINKINFO), 0, k.IFLA_INFO_DATA), 0, k.VETH_INFO_PEER)
  t.match(decodeLink(inner), { name: 'eth0', mac: peer.mac, mtu: 1450 })
  t.strictSame([...find(inner, 16, k.IFLA_NET_NS_FD)], [33, 0, 0, 0])
})

t.test('FDB and neighbour entries decode to what was requested', async t => {
  holds(
    fc.property(ifindex, mac, ipv4, (index, mac, address) => {
      const tunnel = setTunnelEntry(index, { mac, vtep: address })
      assert.equal(tunnel.flags & k.NLM_F_EXCL, 0, 'replaced, never exclusively created')
      assert.deepEqual(decodeNeighbour(tunnel.body), {
        family: k.AF_BRIDGE,
        ifindex: index,
        state: k.NUD_NOARP | k.NUD_REACHABLE,
        flags: k.NTF_SELF | k.NTF_MASTER,
        mac,
        destination: address,
        master: 0,
        extra: false
      })
      const flood = addFloodEntry(index, address)
      assert.equal(flood.flags, k.NLM_F_CREATE | k.NLM_F_APPEND)
      assert.equal(decodeNeighbour(flood.body)?.mac, FLOOD_MAC)
      assert.equal(decodeNeighbour(setPortEntry(index, mac).body)?.destination, null)
      assert.equal(decodeNeighbour(setPortEntry(index, mac).body)?.flags, k.NTF_MASTER)
      assert.equal(decodeNeighbour(deleteEntry({ ifindex: index, mac, table: 'self' }).body)?.destination, null)
      const neighbour = decodeNeighbour(setNeighbour(index, { address, mac }).body)
      assert.deepEqual([neighbour?.family, neighbour?.state, neighbour?.mac], [k.AF_INET, k.NUD_PERMANENT, mac])
    })
  )
  t.pass()
})

t.test('an IPv6 address that nothing can be bound to yet is told apart', t => {
  const bytes = setAddress({ ifindex: 3, address: parseIpv6('fd00::1'), prefixLength: 64 }).body
  for (const [flags, unusable] of [
    [0, undefined],
    [k.IFA_F_NODAD, undefined],
    [k.IFA_F_TENTATIVE, 'tentative'],
    [k.IFA_F_TENTATIVE | k.IFA_F_OPTIMISTIC, undefined],
    [k.IFA_F_TENTATIVE | k.IFA_F_DADFAILED, 'duplicate']
  ] as const) {
    const payload = Uint8Array.from(bytes)
    payload[2] = flags
    t.strictSame(decodeAddress(payload), {
      ifindex: 3,
      address: 'fd00::1',
      prefixLength: 64,
      ...(unusable === undefined ? {} : { unusable })
    })
  }
  const four = Uint8Array.from(setAddress({ ifindex: 3, address: 1 as Ipv4, prefixLength: 8 }).body)
  four[2] = k.IFA_F_TENTATIVE
  t.notOk('unusable' in (decodeAddress(four) ?? {}), 'IPv4 has no such check')
  t.end()
})

t.test('addresses, routes and namespace ids are read back', async t => {
  holds(
    fc.property(ifindex, ipv4, fc.nat({ max: 32 }), (ifindex, address, prefixLength) => {
      assert.deepEqual(decodeAddress(setAddress({ ifindex, address, prefixLength }).body), {
        ifindex,
        address,
        prefixLength
      })
      const route = decodeRoute(addDefaultRoute({ ifindex, gateway: address }).body)
      assert.deepEqual(
        [route?.table, route?.destination, route?.prefixLength, route?.gateway, route?.ifindex],
        [k.RT_TABLE_MAIN, null, 0, address, ifindex]
      )
    })
  )
  t.equal(decodeNetnsId(getNetnsId(5).body), null, 'a request holds no id')
  t.equal(decodeNetnsId(new Writer().u32(0).attributeU32(k.NETNSA_NSID, 7).message(0, 0).body), 7)
  t.equal(decodeNetnsId(new Writer().u32(0).attributeU32(k.NETNSA_NSID, 0xffffffff).message(0, 0).body), null)
})

t.test('the next hops of a route are read, of a multipath route all of them', t => {
  const route = (write: (w: Writer) => Writer) => {
    const head = new Writer().u8(k.AF_INET).u8(0).u8(0).u8(0).u8(k.RT_TABLE_MAIN).u8(0).u8(0).u8(1).u32(0)
    return decodeRoute(write(head).message(k.RTM_NEWROUTE, 0).body)?.hops
  }
  const hop = (ifindex: number, write: (w: Writer) => Writer): Uint8Array => {
    const attributes = write(new Writer()).message(0, 0).body
    const head = new Writer()
      .u16(8 + attributes.length)
      .u16(0)
      .u32(ifindex)
    return Buffer.concat([head.message(0, 0).body, attributes])
  }
  const via = (w: Writer): Writer => w.attributeIpv4(k.RTA_GATEWAY, 9 as Ipv4)
  t.same(
    route(w => w.attributeU32(k.RTA_OIF, 5)),
    [{ ifindex: 5, gateway: null }]
  )
  t.same(
    route(w => via(w).attributeU32(k.RTA_OIF, 5)),
    [{ ifindex: 5, gateway: 9 }]
  )
  t.same(
    route(w => w.attribute(k.RTA_VIA, new Uint8Array(18)).attributeU32(k.RTA_OIF, 5)),
    [{ ifindex: 5, gateway: 'other' }]
  )
  const hops = [hop(5, via), hop(6, w => w), hop(7, via)]
  t.same(
    route(w => w.attribute(k.RTA_MULTIPATH, Buffer.concat(hops))),
    [
      { ifindex: 5, gateway: 9 },
      { ifindex: 6, gateway: null },
      { ifindex: 7, gateway: 9 }
    ]
  )
  const cut = Buffer.concat(hops).subarray(0, 20)
  t.same(
    route(w => w.attribute(k.RTA_MULTIPATH, cut)),
    [{ ifindex: 5, gateway: 9 }],
    'a truncated hop is no hop'
  )
  t.same(
    route(w => w.attribute(k.RTA_MULTIPATH, new Uint8Array(8))),
    [],
    'a length of 0 ends the list'
  )
  t.end()
})

t.test('an entry with a port, VNI or device of its own, or a malformed VTEP, is marked as foreign', async t => {
  const entry = (write: (w: Writer) => Writer) =>
    decodeNeighbour(write(new Writer().u8(k.AF_BRIDGE).u8(0).u16(0).u32(5).u16(0x42).u8(2).u8(0)).message(28, 0).body)
  t.equal(entry(w => w.attributeIpv4(k.NDA_DST, 1 as Ipv4))?.extra, false)
  t.equal(entry(w => w.attributeU16Be(k.NDA_PORT, 9))?.extra, true)
  t.equal(entry(w => w.attributeU32(k.NDA_VNI, 9))?.extra, true)
  t.equal(entry(w => w.attributeU32(k.NDA_IFINDEX, 9))?.extra, true)
  t.match(
    entry(w => w.attribute(k.NDA_DST, new Uint8Array(6))),
    { extra: true, destination: null }
  )
  t.match(
    entry(w => w.attributeIp(k.NDA_DST, parseIpv6('fd00::1'))),
    { extra: false, destination: 'fd00::1' }
  )
})

t.test('hostile bytes give null or fewer facts, never an exception or bytes from outside', async t => {
  const decoders = [decodeLink, decodeNeighbour, decodeAddress, decodeRoute, decodeNetnsId]
  const samples = [
    createVxlan({ name: 'vx000001', vni: 1, local: 1 as Ipv4, port: 4789, ttl: 64, mtu: 1450, group: 1, master: 2 })
      .body,
    setTunnelEntry(1, { mac: FLOOD_MAC, vtep: 1 as Ipv4 }).body,
    setAddress({ ifindex: 1, address: 1 as Ipv4, prefixLength: 8 }).body,
    addDefaultRoute({ ifindex: 1, gateway: 1 as Ipv4 }).body
  ]
  const damaged = fc
    .record({
      sample: fc.constantFrom(...samples),
      cut: fc.nat({ max: 200 }),
      flips: fc.array(fc.tuple(fc.nat({ max: 200 }), fc.nat({ max: 255 })), { maxLength: 5 })
    })
    .map(({ sample, cut, flips }) => {
      const bytes = sample.slice(0, Math.max(0, sample.length - cut))
      for (const [at, value] of flips) if (at < bytes.length) bytes[at] = value
      return bytes
    })
  fc.assert(
    fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 200 })), bytes => {
      // In the middle of other bytes: a read past the end would see 0xff.
      const padded = new Uint8Array(bytes.length + 64).fill(0xff)
      padded.set(bytes, 32)
      const window = padded.subarray(32, 32 + bytes.length)
      for (const decode of decoders) assert.deepEqual(decode(window), decode(bytes))
    }),
    { numRuns: 5000 }
  )
  t.pass()
})

t.test('values that are too short read as null', async t => {
  t.equal(readMac(new Uint8Array(5)), null)
  t.equal(readMac(new Uint8Array(7)), null)
  t.equal(readText(new Uint8Array([0x61, 0x62, 0, 0x63])), 'ab')
  t.equal(readText(new Uint8Array([0x61])), 'a')
  t.equal(readText(new TextEncoder().encode('grün\0')), 'grün')
  t.equal(decodeLink(new Uint8Array(15)), null)
  t.equal(decodeNeighbour(new Uint8Array(11)), null)
})

t.test('a route is asked for by both addresses, whole, and as a datagram to a port', async t => {
  holds(
    fc.property(ipv4, ipv4, fc.nat({ max: 65_535 }), (to, from, port) => {
      const { type, flags, body } = getRouteTo({ to, from, port })
      assert.deepEqual([type, flags], [k.RTM_GETROUTE, 0])
      const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0')
      // struct rtmsg, then attributes: destination, source, protocol, port.
      const wanted = [
        '0220200000000000 00000000',
        `0800 0100 ${hex(to, 8)}`,
        `0800 0200 ${hex(from, 8)}`,
        '0500 1b00 11 000000',
        `0600 1d00 ${hex(port, 4)} 0000`
      ].join('')
      assert.equal(Buffer.from(body).toString('hex'), wanted.replaceAll(' ', ''))
    })
  )
  t.pass()
})

t.test('numbers of IPsec policies decode, and what holds none is null', async t => {
  t.equal(Buffer.from(getPolicyCounts().body).toString('hex'), '00000000')
  const word = fc.nat({ max: 0xffffffff })
  holds(
    fc.property(word, word, word, (arriving, leaving, forwarded) => {
      // struct xfrmu_spdinfo: in, out, forward, and the same of sockets.
      const info = new Uint8Array(new Uint32Array([arriving, leaving, forwarded, 7, 8, 9]).buffer)
      const { body } = new Writer().u32(0).attribute(1, info).message(0, 0)
      assert.deepEqual(decodePolicyCounts(body), { arriving, leaving, forwarded })
    })
  )
  for (const payload of [
    new Uint8Array(),
    new Uint8Array(4),
    new Writer().u32(0).attribute(1, new Uint8Array(8)).message(0, 0).body
  ]) {
    t.equal(decodePolicyCounts(payload), null)
  }
})
