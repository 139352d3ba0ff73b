import t from 'tap'
import { nameServersIn, upstreamOf } from '#dns/resolv-conf.ts'

t.test('the first three name servers count, whatever else is in the file', t => {
  const addresses = (text: string): string[] => nameServersIn(text).map(({ address }) => address)
  for (const [text, expected] of [
    ['', []],
    ['nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n', ['127.0.0.53']],
    [
      'nameserver\t192.0.2.1  \nnameserver 2001:db8::1\nnameserver fe80::1%eth0',
      ['192.0.2.1', '2001:db8::1', 'fe80::1%eth0']
    ],
    [
      'nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4',
      ['1.1.1.1', '1.1.1.2', '1.1.1.3']
    ],
    ['#nameserver 1.1.1.1\n; nameserver 1.1.1.2\nnameserver dns.example\nnameserver', []]
  ] as const)
    t.same(addresses(text), expected, JSON.stringify(text))
  t.end()
})

t.test('a configured one has a port', t => {
  t.strictSame(upstreamOf('192.0.2.53:5353'), { address: '192.0.2.53', port: 5_353 })
  t.strictSame(upstreamOf('[2001:db8::53]:53'), { address: '2001:db8::53', port: 53 })
  t.end()
})
