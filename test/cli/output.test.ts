import t from 'tap'
import { facts, highlighted, listWriter, render, table, type Column } from '#cli/output.ts'
import {
  ENDPOINT_COLUMNS,
  hostsTable,
  MEMBER_COLUMNS,
  networksTable,
  raftPeersTable,
  statusFacts
} from '#cli/shapes.ts'
import type { EndpointView, StatusView } from '#model/views.ts'

const PEER_ID = `12D3KooW${'x'.repeat(44)}`

t.test('columns are as wide as their content, without trailing space', t => {
  const rows = [
    ['a', 'bb', ''],
    ['cccc', 'd', 'e']
  ]
  const text = table(
    [
      ['ONE', row => row[0] ?? ''],
      ['TWO', row => row[1] ?? ''],
      ['THREE', row => row[2] ?? '']
    ],
    rows
  )
  t.equal(text, 'ONE   TWO  THREE\na     bb\ncccc  d    e\n')
  t.equal(facts([['name', ''], ['address', '1'] as const]), 'name\naddress  1\n')
  t.end()
})

t.test('foreign text cannot control the terminal', t => {
  for (const hostile of [
    '\u001b[2J',
    '\r',
    '\n',
    '\t',
    '\u0007',
    '\u009b1m',
    '\u202e',
    '\u2066',
    '\u200b',
    '\u2028',
    '\ud800'
  ]) {
    const title = `U+${hostile.charCodeAt(0).toString(16)}`
    t.equal(facts([['name', `a${hostile}b`]]), `name  a?${hostile.slice(1)}b\n`, title)
  }
  for (const harmless of ['für', '漢字', 'a b', '🙂']) t.equal(facts([['n', harmless]]), `n  ${harmless}\n`)
  t.end()
})

t.test('JSON is indented, YAML is YAML', t => {
  t.equal(render('json', { a: [1] }), '{\n  "a": [\n    1\n  ]\n}\n')
  t.equal(render('yaml', { a: [1], b: '10.1.0.2/24' }), 'a:\n  - 1\nb: 10.1.0.2/24\n')
  t.end()
})

t.test('the longest ordinary values fit 80 columns', t => {
  const name = 'host-0123'
  const address = '192.168.100.100'
  const member = { name, address, status: 'leaving', role: 'server', vtep: address, peerId: PEER_ID } as const
  const endpoint = {
    ...{ network: 'tenant-1', containerId: 'f'.repeat(64), name: 'web', ifname: 'eth0', host: 'h12' },
    ...{
      address: '10.100.100.100/16',
      addresses: ['10.100.100.100/16'] as readonly string[],
      rxBytes: 2 ** 40,
      txBytes: 999_999_999
    }
  } as EndpointView
  const network = {
    ...{ name: 'tenant-1', vni: 16_777_215, subnet: '10.100.100.0/24', gateway: '10.100.100.1', egressRate: 100e6 },
    ...{ subnets: ['10.100.100.0/24'], gateways: ['10.100.100.1'] },
    ...{ mtu: 1450, egress: true, hostAccess: false, egressV6: 'nat' as const, endpoints: 65_534 }
  }
  const tables = [
    table(MEMBER_COLUMNS, [member]),
    hostsTable([{ ...member, endpoints: 65_534, version: '10.10.10', status: 'unknown' }]),
    raftPeersTable([
      { name, address: `${address}:65535`, peerId: PEER_ID, state: 'candidate', voter: true, matchIndex: 1e9 }
    ]),
    networksTable([network]),
    table(ENDPOINT_COLUMNS, [endpoint])
  ]
  for (const text of tables) {
    for (const line of text.split('\n')) t.ok(line.length <= 80, `${line.length}: ${line}`)
  }
  t.match(table(ENDPOINT_COLUMNS, [endpoint]), / {2}f{15}~ {2}web .* {2}1T {2,}953M\n/)
  t.end()
})

t.test('peer ids are shortened to their ends, which differ', t => {
  const row = (end: string): string =>
    table(MEMBER_COLUMNS, [
      { name: 'h', address: '', status: 'alive', role: 'client', vtep: '', peerId: `12D3KooW${'x'.repeat(40)}${end}` }
    ])
  t.match(row('abcd'), /~xxxxabcd\n$/)
  t.not(row('abcd'), row('abce'))
  t.end()
})

t.test('problems of a host are shown first', t => {
  const well: StatusView = {
    ...{
      host: 'h1',
      peerId: PEER_ID,
      cluster: 'c1',
      version: '1',
      ready: true,
      trouble: null,
      networks: 1,
      endpoints: 2,
      digest: 'd1',
      differsAt: null
    },
    raft: { role: 'leader', term: 1, leader: 'h1', commitIndex: 9, appliedIndex: 9 },
    members: { alive: 3, failed: 0 },
    overlay: { driver: 'linux', guard: 'nft', noPrograms: null, noServices: null, drift: 0, degraded: [], repaired: {} }
  }
  t.match(statusFacts(well), /^host {7}h1/)
  for (const [change, words] of [
    [{ ready: false }, /^! {10}this host is not ready\nhost /],
    [{ raft: { ...well.raft, leader: null } }, /^! +no leader is known/],
    [{ members: { alive: 2, failed: 1 } }, /^! +1 members? ha(s|ve) failed: vxmesh members\n/],
    [{ overlay: { ...well.overlay, degraded: ['no bridge'] } }, /^! +degraded: no bridge\n/],
    [{ differsAt: 7 }, /^! +the state differs from the leader’s since log index 7/],
    [{ overlay: { ...well.overlay, noPrograms: 'an IPv6 underlay' } }, /drift 0\nno eBPF {4}an IPv6 underlay/],
    [{ overlay: { ...well.overlay, noServices: 'guard nft' } }, /drift 0\nservices {3}do not work here: guard nft/],
    [{ cluster: null }, /\ncluster {4}none yet\n/]
  ] as const) {
    t.match(statusFacts({ ...well, ...change }), words)
  }
  t.end()
})

t.test('on a terminal the widest columns are truncated until the table fits, but never below the minimum width', t => {
  const columns = [
    ['NAME', (row: readonly string[]) => row[0] ?? ''],
    ['TEXT', (row: readonly string[]) => row[1] ?? ''],
    ['N', (row: readonly string[]) => row[2] ?? '']
  ] as const
  const rows = [['a-name-of-some-length', 'x'.repeat(60), '7']]
  const whole = table(columns, rows)
  t.equal(table(columns, rows, 200), whole)
  for (let width = 16; width < 90; width++) {
    const lines = table(columns, rows, width).trimEnd().split('\n')
    for (const line of lines) t.ok(line.length <= Math.max(width, 17), `${width}: ${line}`)
    t.match(lines[1], /7$/, 'a short column is never truncated')
    if (width >= 86) t.equal(table(columns, rows, width), whole)
    else t.match(lines[1], /~/)
    if (width >= 17 && width < 86) t.ok((lines[1]?.length ?? 0) >= Math.min(width, 86), `${width} is made use of`)
  }
  t.end()
})

t.test('a table that does not fit shows the short form of its cells, on later pages too', t => {
  type Lists = { readonly name: string; readonly all: readonly string[] }
  const columns: readonly Column<Lists>[] = [
    ['NAME', row => row.name],
    ['ALL', row => row.all.join(' '), row => `${row.all[0]} +${row.all.length - 1}`],
    ['END', () => 'e']
  ]
  const [short, long] = [
    { name: 'a', all: ['10.1.0.2', 'fd00::2'] },
    { name: 'b', all: ['10.1.0.2', 'fd00:1:2:3:4:5:6:7'] }
  ]
  t.equal(table(columns, [short, long], 80), table(columns, [short, long]))
  t.equal(table(columns, [short, long], 30), 'NAME  ALL          END\na     10.1.0.2 +1  e\nb     10.1.0.2 +1  e\n')
  t.equal(table(columns, [short], 30), 'NAME  ALL               END\na     10.1.0.2 fd00::2  e\n', 'it fits')
  const writer = listWriter('table', columns, 30)
  t.equal(writer.page([short]), table(columns, [short], 30))
  t.equal(writer.page([long]), 'b     10.1.0.2 +1  e\n')
  t.equal(writer.page([short]), 'a     10.1.0.2 +1  e\n')
  t.end()
})

t.test('only problems are red', t => {
  t.equal(highlighted('host  h1\n!     bad\n'), 'host  h1\n\u001b[31m!     bad\u001b[39m\n')
  t.end()
})

type Row = { readonly name: string; readonly note: string }
const COLUMNS: readonly Column<Row>[] = [
  ['NAME', row => row.name],
  ['NOTE', row => row.note]
]
const ROWS: readonly Row[] = ['a', 'bb', 'c', 'dd', 'e'].map(name => ({ name, note: 'x\ny' }))

/** What is written when the rows come in pages of this size, the last page empty. */
function inPages(format: 'table' | 'json' | 'yaml', rows: readonly Row[], size: number): string {
  const writer = listWriter(format, COLUMNS)
  let text = ''
  for (let at = 0; at <= rows.length; at += size) text += writer.page(rows.slice(at, at + size))
  return text + writer.end()
}

t.test('a list in pages is written as the whole list would be', t => {
  for (const rows of [ROWS, []]) {
    for (const size of [1, 2, 5]) {
      for (const format of ['json', 'yaml'] as const) {
        t.equal(inPages(format, rows, size), render(format, rows), `${format} ${rows.length} by ${size}`)
      }
    }
    t.equal(inPages('table', rows, 5), table(COLUMNS, rows))
  }
  t.equal(inPages('table', ROWS, 2), table(COLUMNS, ROWS), 'when the first page has the widest cells')
  t.end()
})

t.test('a table widens where a later page needs it', t => {
  const rows = ['a', 'b', 'long-name', 'c'].map(name => ({ name, note: 'n' }))
  t.equal(inPages('table', rows, 2), 'NAME  NOTE\na     n\nb     n\nlong-name  n\nc          n\n')
  t.end()
})
