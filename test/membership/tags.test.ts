import t from 'tap'
import { decodeTags, encodeTags } from '#membership/view/tags.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { quote } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { peer, tags } from './fixtures.ts'

const sound = encodeTags(tags(1))

t.test('tags survive the round trip, and unknown tags are ignored', t => {
  const { clusterId, ...bare } = tags(1)
  for (const each of [
    tags(1),
    { ...bare, seed: '0123456789abcdef' },
    bare,
    tags(2, { role: 'client', bootstrapExpect: 0 }),
    tags(3, { p2pPort: 65_535 }),
    tags(3, { vtep: parseIp('fd00::3') })
  ]) {
    t.strictSame(decodeTags(encodeTags(each)), each)
    t.strictSame(decodeTags({ ...encodeTags(each), dc: 'x', __proto: '1' }), each)
  }
  t.ok(clusterId)
  t.end()
})

t.test("the longest tags fit in Serf's 512 bytes", t => {
  const longest = tags(1, { seed: 'f'.repeat(16), bootstrapExpect: 100, p2pPort: 65_535, protocol: 1_000 })
  t.ok(encodeMsgpack({ ...encodeTags(longest), vtep: `${'ffff:'.repeat(7)}ffff` }).byteLength < 512)
  t.end()
})

const hostile: readonly { tag: string; values: readonly unknown[] }[] = [
  { tag: 'role', values: [undefined, null, 7, '', 'Server', 'leader', 'server ', ['server'], {}] },
  {
    tag: 'peer',
    values: [undefined, null, 7, '', 'h1', 'x'.repeat(10_000), `${peer(1)}\n`, `../${peer(1)}`, [peer(1)]]
  },
  {
    tag: 'p2p',
    values: [undefined, null, 7_947, '', '0', '-1', '65536', '99999', '123456', '1e3', '0x1', ' 1', '7947.5', '٣']
  },
  {
    tag: 'vtep',
    values: [
      undefined,
      null,
      0xc0000201,
      '',
      '192.0.2',
      '192.0.2.01',
      '192.0.2.256',
      '192.0.2.1/24',
      '::1',
      '::ffff:192.0.2.1',
      '::',
      'ff02::1',
      'fe80::1',
      'fd00::1%eth0',
      '[fd00::1]',
      'localhost',
      '0.0.0.0',
      '224.0.0.1',
      '239.1.1.1',
      '255.255.255.255',
      '192.0.2.1; reboot'
    ]
  },
  { tag: 'vx', values: [undefined, 1, '', '-1', '1.5', '1001', '٣'] },
  { tag: 'expect', values: [undefined, 3, '', '-1', '101', '3 '] },
  {
    tag: 'seed',
    values: [null, 7, '', '0123456789ABCDEF', '0123456789abcde', '0123456789abcdef0', {}]
  },
  {
    tag: 'cluster',
    values: [null, 7, '', '0123456789ABCDEF', '0123456789abcde', '0123456789abcdef0', '0123456789abcdeg', {}]
  }
]
for (const { tag, values } of hostile) {
  for (const value of values) {
    t.test(`an invalid value of the tag ${tag} is refused by name: ${quote(value)}`, t => {
      t.throws(() => decodeTags({ ...sound, [tag]: value }), { code: 'ERR_INVALID', field: tag })
      t.end()
    })
  }
}
