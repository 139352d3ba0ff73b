import t from 'tap'
import { parseIp } from '#model/ip.ts'
import { joinIp, parseJoinAddress } from '#model/join-address.ts'
import { formatSocketAddress, parsePortless, parseSocketAddress } from '#model/socket-address.ts'

for (const [text, address, port] of [
  ['192.0.2.1:7946', '192.0.2.1', 7946],
  ['0.0.0.0:1', '0.0.0.0', 1],
  ['[fd00::1]:7946', 'fd00::1', 7946],
  ['[FD00:0::1]:65535', 'fd00::1', 65_535],
  ['[::]:80', '::', 80],
  ['[::ffff:192.0.2.1]:80', '::ffff:c000:201', 80],
  ['192.0.2.1', '192.0.2.1', null],
  ['fd00::1', 'fd00::1', null],
  ['[fd00::1]', 'fd00::1', null],
  ['::1', '::1', null],
  ['fd00::7946', 'fd00::7946', null],
  ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8', null]
] as const) {
  t.test(`${text} is ${address}${port === null ? '' : ` and port ${port}`}`, t => {
    const parsed = parsePortless(text, 'listen')
    t.strictSame(parsed, { address: parseIp(address), port })
    if (port === null) t.throws(() => parseSocketAddress(text, 'listen'), { code: 'ERR_INVALID', field: 'listen' })
    else t.strictSame(parseSocketAddress(formatSocketAddress({ ...parsed, port }), 'listen'), parsed)
    t.end()
  })
}

for (const text of [
  ...['', ':', ':80', '[', ']', '[]', '[]:80', '192.0.2.1:', '192.0.2.1:0', '192.0.2.1:080', '192.0.2.1:65536'],
  ...['192.0.2.1:-1', '192.0.2.1:80:80', '192.0.2.1 :80', ' 192.0.2.1:80', '192.0.2.1:80 ', '192.0.2.1:8_0'],
  ...['[192.0.2.1]:80', '[192.0.2.1]', 'fd00:1', '[fd00::1]:', '[fd00::1]:0', '[fd00::1]:80:80', '[fd00::1]80'],
  ...['[fd00::1', 'fd00::1]', '[[fd00::1]]:80', '[fd00::1]]:80', 'x[fd00::1]:80', '[fd00::1%eth0]:80', 'fd00::1%eth0'],
  ...['1:2:3:4:5:6:7:8:80', 'localhost', 'localhost:80', '*:80', '192.0.2.1:80\n', '[fd00::1]:80\n', '192.0.2.1:٣']
]) {
  t.test(`${JSON.stringify(text)} is refused, the field named`, t => {
    t.throws(() => parsePortless(text, 'listen'), { code: 'ERR_INVALID', field: 'listen', message: /^listen: / })
    t.throws(() => parseJoinAddress(text), { code: 'ERR_INVALID', field: 'join' })
    t.end()
  })
}

t.test('a join address is as Serf takes it: IPv4 unchanged, IPv6 in brackets', t => {
  for (const [text, joined, ip] of [
    ['192.0.2.1', '192.0.2.1', '192.0.2.1'],
    ['192.0.2.1:7000', '192.0.2.1:7000', '192.0.2.1'],
    ['FD00:0::1', '[fd00::1]', 'fd00::1'],
    ['[fd00::1]', '[fd00::1]', 'fd00::1'],
    ['[fd00::1]:7000', '[fd00::1]:7000', 'fd00::1']
  ] as const) {
    t.equal(parseJoinAddress(text), joined)
    t.equal(parseJoinAddress(joined), joined)
    t.equal(joinIp(joined), parseIp(ip))
  }
  t.end()
})
