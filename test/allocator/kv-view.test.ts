import t from 'tap'
import { getKv, listKv } from '#allocator/kv-view.ts'
import { attach, Caller, create, detach, makeHost, peer } from './fixtures.ts'

const caller = Caller.ready()
caller.do(
  create('blue', { subnet: '10.2.0.0/29', gateway: '10.2.0.3', vni: 77, requestId: 'r', egressRate: 5_000_000 })
)
caller.do(attach('red', 'c1'))
caller.do(attach('red', 'c1', { ifname: 'eth1' }))
caller.do(attach('blue', 'c2', { host: 2, address: '10.2.0.6', rate: 8_000, requestId: 'q' }))
const { state } = caller

const KEYS = [
  'endpoint/blue/c2/eth0',
  'endpoint/red/c1/eth0',
  'endpoint/red/c1/eth1',
  'host/h1',
  'host/h2',
  'ipStore/blue',
  'ipStore/red',
  'network/blue',
  'network/red',
  'vlanStore'
]

t.test("the keys are the paper's, in order", t => {
  t.same(
    listKv(state).map(({ key }) => key),
    KEYS
  )
  t.end()
})

const values: readonly { key: string; value: Record<string, unknown> }[] = [
  {
    key: 'network/blue',
    value: {
      name: 'blue',
      vni: 77,
      subnet: '10.2.0.0/29',
      gateway: '10.2.0.3',
      egressRate: 5_000_000,
      mtu: 0,
      egress: true,
      hostAccess: false,
      requestId: 'r'
    }
  },
  {
    key: 'vlanStore',
    value: {
      base: 0,
      size: 2 ** 24,
      used: 2,
      reserved: 1,
      cursor: 4_097,
      set: [
        [0, 0],
        [77, 77],
        [4_096, 4_096]
      ],
      more: false
    }
  },
  {
    key: 'ipStore/blue',
    value: {
      base: '10.2.0.0',
      size: 8,
      used: 1,
      reserved: 3,
      cursor: '10.2.0.1',
      set: [
        ['10.2.0.0', '10.2.0.0'],
        ['10.2.0.3', '10.2.0.3'],
        ['10.2.0.6', '10.2.0.7']
      ],
      more: false
    }
  },
  {
    key: 'endpoint/blue/c2/eth0',
    value: {
      network: 'blue',
      vni: 77,
      containerId: 'c2',
      ifname: 'eth0',
      name: '',
      host: 'h2',
      peerId: peer(2),
      address: '10.2.0.6',
      mac: '02:4d:0a:02:00:06',
      ingressRate: 8_000,
      egressRate: 0,
      delayUs: 0,
      requestId: 'q'
    }
  },
  { key: 'host/h1', value: { ...makeHost(1), vtep: '192.0.2.1' } }
]
for (const { key, value } of values) {
  t.test(`${key} is readable`, t => {
    t.strictSame(getKv(state, key), value)
    t.strictSame(listKv(state, { prefix: key }), [{ key, value }])
    t.strictSame(JSON.parse(JSON.stringify(value)), value, 'as plain JSON')
    t.end()
  })
}

t.test('every listed key can be read and has the same value', t => {
  for (const { key, value } of listKv(state)) t.strictSame(getKv(state, key), value, key)
  t.end()
})

for (const prefix of [
  '',
  'e',
  'endpoint',
  'endpoint/',
  'endpoint/red/c1',
  'host/',
  'ip',
  'n',
  'network/r',
  'v',
  'x',
  '/'
]) {
  t.test(`the prefix "${prefix}" lists the keys that start with it`, t => {
    t.same(
      listKv(state, { prefix }).map(({ key }) => key),
      KEYS.filter(key => key.startsWith(prefix))
    )
    t.end()
  })
}

for (const key of [
  '',
  '/',
  'network',
  'network/',
  'network/green',
  'network/red/',
  'network/red/x',
  'Network/red',
  'vlanStore/',
  'vlanStore/red',
  'vlan',
  'ipStore',
  'ipStore/green',
  'ipStore/red/10.1.0.2',
  'endpoint',
  'endpoint/red',
  'endpoint/red/c1',
  'endpoint/red/c1/eth2',
  'endpoint/red/c1/eth0/x',
  'endpoint/blue/c1/eth0',
  'endpoint//c1/eth0',
  'host/h3',
  `host/${peer(1)}`,
  '__proto__',
  'network/__proto__',
  'network/constructor',
  'constructor'
]) {
  t.test(`no entry under "${key}"`, t => {
    t.equal(getKv(state, key), undefined)
    t.end()
  })
}

t.test('networks whose names share a prefix are not confused', t => {
  const own = Caller.ready()
  own.do(create('red-2'))
  own.do(attach('red-2', 'c1'))
  t.same(listKv(own.state, { prefix: 'endpoint/red/' }), [])
  t.equal(listKv(own.state, { prefix: 'endpoint/red' }).length, 1)
  own.do(detach('c1'))
  t.same(listKv(own.state, { prefix: 'endpoint' }), [])
  t.end()
})

t.test('pages of any size, each after the last key of the one before, add up to the whole list', t => {
  const own = Caller.ready()
  for (const name of ['red-2', 'redder', 'a', 'z9']) own.do(create(name))
  for (const [n, network] of ['red', 'red-2', 'redder', 'a', 'red', 'red-2', 'red'].entries()) {
    own.do(attach(network, `c${n}`))
  }
  const all = listKv(own.state)
  t.same(
    all.map(({ key }) => key),
    all.map(({ key }) => key).sort()
  )
  for (const prefix of ['', 'endpoint/red', 'endpoint/red/', 'host/', 'nothing']) {
    const whole = all.filter(({ key }) => key.startsWith(prefix))
    for (const limit of [1, 2, 3, 100]) {
      const paged = []
      for (let after = ''; ;) {
        const page = listKv(own.state, { prefix, after, limit })
        t.ok(page.length <= limit)
        paged.push(...page)
        if (page.length < limit) break
        after = page.at(-1)?.key ?? ''
      }
      t.same(paged, whole, `"${prefix}" by ${limit}`)
    }
  }
  t.end()
})

t.test('a page after a deleted key continues where the key was', t => {
  t.equal(listKv(state, { after: 'endpoint/red/c0/eth7' })[0]?.key, 'endpoint/red/c1/eth0')
  t.equal(listKv(state, { after: 'endpoint/zzz' })[0]?.key, 'host/h1')
  t.same(listKv(state, { after: 'vlanStore' }), [])
  t.end()
})

t.test('a fragmented bit vector is truncated at the limit, and `more` says so', t => {
  const own = Caller.ready()
  own.do(create('wide', { subnet: '10.64.0.0/16' }))
  const limit = 4_096
  const claim = (n: number): void => {
    const address = `10.64.${Math.floor((2 * n + 4) / 256)}.${(2 * n + 4) % 256}`
    own.do(attach('wide', `c${n}`, { address }))
  }
  for (let n = 0; n < limit - 2; n++) claim(n)
  const whole = getKv(own.state, 'ipStore/wide') as { set: unknown[]; more: boolean }
  t.same([whole.set.length, whole.more], [limit, false])
  claim(limit - 2)
  const cut = getKv(own.state, 'ipStore/wide') as { set: unknown[]; more: boolean }
  t.same([cut.set.length, cut.more], [limit, true])
  const [listed] = listKv(own.state, { prefix: 'ipStore/wide' })
  t.match(listed?.value, { more: true, used: limit - 1 })
  t.equal((listed?.value['set'] as unknown[]).length, 16)
  t.end()
})

t.test('IPv6 is readable as text, with the addresses that are in no pool and those that mirror none', t => {
  const own = Caller.raised()
  own.do(create('both', { subnet: '10.2.0.0/29', subnet6: 'fd00:2::/64' }))
  own.do(create('six', { subnet: 'fd00:6::/64' }))
  own.do(attach('both', 'b1'))
  own.do(attach('both', 'b2', { address6: 'fd00:2::77' }))
  own.do(attach('both', 'b3', { address6: 'fd00:2::9' }))
  own.do(attach('six', 's1'))
  own.do(attach('six', 's2', { address: 'fd00:6::1:0:0:5' }))
  own.do(attach('six', 's3', { address: 'fd00:6::1:0:0:4', mac: '02:aa:00:00:00:01' }))
  const { state } = own
  t.match(getKv(state, 'network/both'), { subnet: '10.2.0.0/29', subnet6: 'fd00:2::/64', gateway: '10.2.0.1' })
  t.match(getKv(state, 'network/six'), { subnet: 'fd00:6::/64', gateway: 'fd00:6::1' })
  t.notOk('subnet6' in (getKv(state, 'network/six') ?? {}))
  t.strictSame(getKv(state, 'ipStore/both'), {
    base: '10.2.0.0',
    size: 8,
    used: 3,
    reserved: 3,
    cursor: '10.2.0.5',
    set: [
      ['10.2.0.0', '10.2.0.4'],
      ['10.2.0.7', '10.2.0.7']
    ],
    more: false,
    second: { base: 'fd00:2::', chosen: ['fd00:2::9', 'fd00:2::77'] }
  })
  t.strictSame(getKv(state, 'ipStore/six'), {
    base: 'fd00:6::',
    size: 2 ** 24,
    used: 1,
    reserved: 2,
    cursor: 'fd00:6::3',
    set: [['fd00:6::', 'fd00:6::2']],
    more: false,
    beyond: ['fd00:6::1:0:0:4', 'fd00:6::1:0:0:5']
  })
  t.match(getKv(state, 'endpoint/both/b1/eth0'), { address: '10.2.0.2', address6: 'fd00:2::2' }, 'a mirror is shown')
  t.match(getKv(state, 'endpoint/both/b2/eth0'), { address: '10.2.0.3', address6: 'fd00:2::77' })
  t.match(getKv(state, 'endpoint/six/s2/eth0'), { address: 'fd00:6::1:0:0:5' })
  t.notOk('address6' in (getKv(state, 'endpoint/six/s2/eth0') ?? {}))
  for (const { key, value } of listKv(state)) {
    t.strictSame(getKv(state, key), value, key)
    t.strictSame(JSON.parse(JSON.stringify(value)), value, 'as plain JSON')
  }
  t.end()
})

t.test('a list of addresses beyond the pool is cut at the limit', t => {
  const own = Caller.raised()
  own.do(create('six', { subnet: 'fd00:6::/64' }))
  for (let n = 0; n < 20; n++) own.do(attach('six', `c${n}`, { address: `fd00:6::1:0:0:${n + 10}` }))
  const beyond = (value: unknown): unknown[] => (value as { beyond: unknown[] }).beyond
  t.equal(beyond(getKv(own.state, 'ipStore/six')).length, 20)
  t.equal(beyond(listKv(own.state, { prefix: 'ipStore/six' })[0]?.value).length, 16)
  t.end()
})
